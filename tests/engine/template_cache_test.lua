-- What builds keep and share: layers, files, builds side by side. Uses the
-- engine of $E2BLUA_HOME.
local Template = require "e2b.template"
local Error = require "e2b.error"
local fs = require "e2b_fs"
local t = require "tests"
local task = require "e2b_task"
local wire = require "e2b_wire"
local world = require "template_world"

t.before(world.warm_up)

-- A template whose layers are new, with the given commands behind a first one.
local function steps(nonce, ...)
    local template = world.template():run_cmd("echo " .. nonce .. " > ~/first")
    for _, command in ipairs { ... } do
        template:run_cmd(command)
    end
    return template
end

t.test("a second build is cached as a whole, and quick", function()
    local nonce, name = wire.random(6), world.unique("again")
    local function template()
        return steps(nonce, "echo 2 > ~/second"):set_workdir("/srv/app"):set_user("mara")
            :set_envs { A = "$HOME" }
            :set_start_cmd("sleep 99", Template.wait_for_process("sleep"))
    end
    local _, log = world.build(template(), name)
    t.eq(world.cached(log), { "new", "new", "new", "new", "new" })
    local began = task.now()
    _, log = world.build(template(), name)
    t.ok(task.now() - began < 0.5, "took " .. task.now() - began .. " s")
    t.eq(world.cached(log), { "CACHED", "CACHED", "CACHED", "CACHED", "CACHED" })
    t.eq(world.count(log, "Running start command"), 0)
    t.eq(world.output(name, "cat ~user/second; pwd; id -un"), "2\n/srv/app\nmara\n")
    _, log = world.build(template(), world.unique("other"))
    t.eq(world.cached(log)[5], "CACHED", "layers belong to all templates")
end)

t.test("a changed step keeps the layers before it", function()
    local nonce, name = wire.random(6), world.unique("changed")
    world.build(steps(nonce, "echo b > ~/b", "echo c > ~/c"), name)
    local _, log = world.build(steps(nonce, "echo B > ~/b", "echo c > ~/c"), name)
    t.eq(world.cached(log), { "CACHED", "new", "new" })
    t.eq(world.output(name, "cat first b c"), nonce .. "\nB\nc\n")
end)

t.test("an inherited start command is tried on what a child adds, and once", function()
    local nonce, parent, child = wire.random(6), world.unique("parent"), world.unique("child")
    world.build(steps(nonce):set_start_cmd("sleep 99", Template.wait_for_process("sleep")), parent)
    for _, tried in ipairs { 1, 0 } do
        local _, log = world.build(Template():from_template(parent):run_cmd("true"), child)
        t.eq(world.count(log, "Running start command: sleep 99"), tried)
    end
    local e = world.failure(Template():from_template(parent)
        :run_cmd("mv /bin/sleep /bin/awake", { user = "root" }), world.unique("child"))
    t.match(e.message, "start command failed: .*exit status 127")
end)

t.test("user, folder and variables are part of what made a layer", function()
    local nonce, name = wire.random(6), world.unique("context")
    local function template(value)
        return steps(nonce):set_envs { A = value }:run_cmd("echo $A > ~/a")
    end
    world.build(template("1"), name)
    local _, log = world.build(template("2"), name)
    t.eq(world.cached(log)[3], "new")
    t.eq(world.output(name, "cat a"), "2\n")
end)

t.test("skip_cache builds anew from there on", function()
    local nonce, name = wire.random(6), world.unique("skip")
    local function template(skip)
        local made = steps(nonce)
        if skip then
            made:skip_cache()
        end
        return made:run_cmd("cat /proc/sys/kernel/random/uuid > ~/uuid"):run_cmd("true")
    end
    world.build(template(false), name)
    local before = world.output(name, "cat uuid")
    local _, log = world.build(template(true), name)
    t.eq(world.cached(log), { "CACHED", "new", "new" })
    local after = world.output(name, "cat uuid")
    t.ok(before ~= after, "the step was not run")
    _, log = world.build(template(false), name)
    t.eq(world.cached(log), { "CACHED", "CACHED", "CACHED" })
    t.eq(world.output(name, "cat uuid"), after, "the newer layer counts")
    _, log = world.build(template(false), name, { skip_cache = true })
    t.eq(world.cached(log), { "new", "new", "new" })
end)

t.test("COPY counts by its files", function()
    local dir = world.folder { ["app/a.txt"] = wire.random(6), ["other"] = "1" }
    local name = world.unique("files")
    local function build()
        local _, log = world.build(world.template { file_context_path = dir }
            :copy("app", "/srv/app"):run_cmd("true"), name)
        return log
    end
    local log = build()
    t.eq(world.count(log, "Uploaded 'app'"), 1)
    Error.check(fs.write_file(dir .. "/other", "2"))
    log = build()
    t.eq(world.cached(log), { "CACHED", "CACHED" })
    t.eq(world.count(log, "Skipping upload of 'app', already cached"), 1)
    Error.check(fs.write_file(dir .. "/app/a.txt", "changed " .. name))
    log = build()
    t.eq(world.cached(log), { "new", "new" })
    t.eq(world.output(name, "cat /srv/app/a.txt"), "changed " .. name)
end)

t.test("a template is built anew while a sandbox of its old build lives", function()
    local name = world.unique("alive")
    world.build(steps("one"), name)
    local old <close> = world.sandbox(name)
    world.build(steps("two"), name, { skip_cache = true })
    t.eq(world.output(name, "cat first"), "two\n")
    t.eq(old.commands:run("cat first; echo still > first; cat first").stdout, "one\nstill\n")
end)

-- ---- side by side -----------------------------------------------------------------------------

-- Runs the functions at once; returns ok, result of each.
local function together(...)
    local tasks, results = {}, {}
    for i, fn in ipairs { ... } do
        tasks[i] = task.spawn_quiet(fn)
    end
    for i, running in ipairs(tasks) do
        results[i] = table.pack(pcall(running.join, running, 50))
    end
    return results
end

t.test("the same build twice at once: both are ready, each step is run once", function()
    local nonce, name = wire.random(6), world.unique("twice")
    local logs = {}
    local function one()
        local info, log = world.build(steps(nonce,
            "sleep 0.3; cat /proc/sys/kernel/random/uuid > ~/uuid", "true"), name)
        logs[#logs + 1] = log
        return info.build_id
    end
    local results = together(one, one)
    t.ok(results[1][1], results[1][2])
    t.ok(results[2][1], results[2][2])
    local new = 0
    for _, log in ipairs(logs) do
        for _, how in ipairs(world.cached(log)) do
            new = new + (how == "new" and 1 or 0)
        end
    end
    t.eq(new, 3)
    t.eq(world.output(name .. ":" .. results[1][2], "cat uuid"),
        world.output(name .. ":" .. results[2][2], "cat uuid"))
end)

t.test("templates with the same first steps share them while they are being made", function()
    local nonce = wire.random(6)
    local names = { world.unique("share"), world.unique("share"), world.unique("share") }
    local logs, builds = {}, {}
    for i, name in ipairs(names) do
        builds[i] = function()
            local _, log = world.build(steps(nonce, "sleep 0.2; echo 2 > ~/second",
                ("echo %d > ~/own"):format(i)), name)
            logs[i] = log
        end
    end
    for _, result in ipairs(together(table.unpack(builds))) do
        t.ok(result[1], result[2])
    end
    local new = { 0, 0, 0 }
    for _, log in ipairs(logs) do
        for i, how in ipairs(world.cached(log)) do
            new[i] = new[i] + (how == "new" and 1 or 0)
        end
    end
    t.eq(new, { 1, 1, 3 })
    for i, name in ipairs(names) do
        t.eq(world.output(name, "cat first second own"), nonce .. "\n2\n" .. i .. "\n")
    end
end)

t.test("when one of two that need a layer fails to make it, the other tries too", function()
    local nonce = wire.random(6)
    local function build()
        return world.build(steps(nonce, "sleep 0.2; exit 4"), world.unique("both"))
    end
    for _, result in ipairs(together(build, build)) do
        t.eq(result[1], false)
        t.eq(result[2].exit_code, 4)
    end
end)

t.test("a build that asks for something else takes the place of the one under way", function()
    local name, nonce = world.unique("newer"), wire.random(6)
    local e
    local older = task.spawn_quiet(function()
        e = t.raises("build", world.build, steps(nonce, "sleep 30"), name)
    end)
    task.sleep(0.4)
    world.build(steps(nonce, "true"), name)
    older:join(10)
    t.match(e.message, "build was cancelled: a newer build of the same template was started")
    t.eq(world.output(name, "cat first"), nonce .. "\n")
end)

t.test("builds for other tags go on", function()
    local name, nonce = world.unique("tagged"), wire.random(6)
    for _, result in ipairs(together(function()
        world.build(steps(nonce, "sleep 0.3; echo 1 > ~/v"), name .. ":v1")
    end, function()
        task.sleep(0.1)
        world.build(steps(nonce, "echo 2 > ~/v"), name .. ":v2")
    end)) do
        t.ok(result[1], result[2])
    end
    t.eq(world.output(name .. ":v1", "cat v") .. world.output(name .. ":v2", "cat v"), "1\n2\n")
end)

t.test("a build in the background can be followed", function()
    local info = Template.build_in_background(steps(wire.random(6), "sleep 0.2; echo done"),
        world.unique("background"), { headers = world.ALONE })
    local seen, entries = {}, 0
    repeat
        task.sleep(0.05)
        local status = Template.get_build_status(info,
            { logs_offset = entries, headers = world.ALONE })
        entries = entries + #status.log_entries
        seen[#seen + 1] = status.status
    until status.status ~= "building"
    t.eq({ seen[1], seen[#seen] }, { "building", "ready" })
    t.ok(entries > 4, "no log")
    t.eq(world.output(info.template_id, "echo fine"), "fine\n")
end)

t.test("a step with a long output is followed to its last line, and does not stall", function()
    local began = task.now()
    local _, log = world.build(steps(wire.random(6), "seq 20000"), world.unique("long"))
    t.eq(world.count(log, "[stdout]: "), 20000)
    t.eq(world.count(log, "[stdout]: 20000"), 1)
    t.ok(task.now() - began < 20, "took " .. task.now() - began .. " s")
end)
