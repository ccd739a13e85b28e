-- Builds that fail, and what is said of it; an engine that dies while it builds.
-- Uses the engine of $E2BLUA_HOME and others.
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local child = require "child"
local fs = require "e2b_fs"
local http = require "e2b.http"
local json = require "e2b_json"
local paths = require "engine.paths"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"
local wire = require "e2b_wire"
local world = require "template_world"

t.before(world.warm_up)

local HERE <const> = debug.getinfo(1, "S").short_src

-- The line of this file that holds the text as a comment.
local function line_of(mark)
    local n = 0
    for line in (fs.read_file(HERE) .. "\n"):gmatch("(.-)\n") do
        n = n + 1
        if line:find("-- " .. mark .. "$") then
            return HERE .. ":" .. n
        end
    end
end

local function fails(template, opts)
    return world.failure(template, world.unique("fails"), opts)
end

t.test("a failing step names itself, its line, its exit code and its last output", function()
    local e = fails(world.template()
        :run_cmd("echo fine")
        :run_cmd("for i in $(seq 30); do echo line $i; done; echo to stderr >&2; exit 42") -- step 2
        :run_cmd("echo never"))
    t.match(e.message, "^step 2 %(RUN for i in .*%) failed: failed to run command 'for i in")
    t.match(e.message, "exit status 42\n")
    t.match(e.message, "\n    line 21\n.*\n    line 30")
    t.match(e.message, "\n    to stderr")
    t.ok(not e.message:find("line 5\n", 1, true), "not only the last lines")
    t.eq({ e.step, e.exit_code, e.where }, { "2", 42, line_of("step 2") })
    t.match(e.output, "line 30")
end)

t.test("a step that is refused an address says which", function()
    local began = task.now()
    local e = fails(world.template():run_cmd("curl -sS http://169.254.169.254/latest"))
    t.match(e.message, "1 connection refused by policy, the last: 169%.254%.169%.254:80")
    t.match(e.output, "curl: %(%d+%)")
    t.ok(task.now() - began < 10, "it took " .. task.now() - began .. " s")
end)

t.test("a step that takes more memory than it has says so", function()
    rig.needs_limits(rig.sandbox())
    local e = fails(world.template():run_cmd("python3 -c 'bytearray(500 << 20)'"),
        { memory_mb = 256 })
    t.match(e.message, "killed for lack of memory: the sandbox has 256 MiB")
end)

t.test("an unknown user of a command", function()
    local e = fails(world.template():run_cmd("true", { user = "nobody-here" }))
    t.match(e.message, "nobody%-here")
    t.eq(e.step, "1")
end)

t.test("an unknown base", function()
    local e = fails(Template()
        :from_template("never-built") -- unknown base
        :run_cmd("true"))
    t.match(e.message, "^FROM never%-built failed: template 'never%-built' not found")
    t.eq({ e.step, e.where }, { "base", line_of("unknown base") })
    e = fails(Template():from_image("alpine:3"))
    t.match(e.message, "the image \"alpine:3\" cannot be had")
    t.match(e.message, "begin with from_base_image")
    local name = world.unique("base")
    world.build(world.template(), name .. ":v1")
    e = fails(Template():from_template(name .. ":v2"))
    t.match(e.message, "tag 'v2' does not exist")
end)

t.test("COPY of a file that is not there fails before anything is sent", function()
    local dir = world.folder { ["a.txt"] = "A" }
    local e = t.raises("template", world.build, world.template { file_context_path = dir }
        :copy("a.txt", "/srv/")
        :copy("missing.txt", "/srv/"), "missing") -- missing
    t.match(e.message, "No files found in .*/missing%.txt")
    t.eq(e.where, line_of("missing"))
    t.eq(Template.exists("missing", { headers = world.ALONE }), true, "the name is registered")
end)

t.test("a failing start command", function()
    local e = fails(world.template()
        :run_cmd("true")
        :set_start_cmd("echo cannot; sleep 0.2; exit 7", "test -f /tmp/never")) -- start
    t.match(e.message, "^the start or ready command failed: start command failed: .*exit status 7")
    t.match(e.message, "cannot")
    t.eq({ e.step, e.exit_code, e.where }, { "finalize", 7, line_of("start") })
    e = fails(world.template():set_start_cmd("exit 8", Template.wait_for_timeout(1000)))
    t.eq(e.exit_code, 8, "a ready command that is only a wait does not hide it")
end)

t.test("a start command that fails in a new sandbox: create says so with its output", function()
    local name = world.unique("once")
    world.build(world.template():set_start_cmd(
        "[ -z \"$E2B_SANDBOX_ID\" ] || { echo not here; exit 9; }; touch /tmp/up; sleep 99",
        Template.wait_for_file("/tmp/up")), name)
    local e = t.raises("sandbox", world.sandbox, name)
    t.match(e.message, "start command failed: .*exit status 9")
    t.match(e.message, "not here")
end)

t.test("an empty name, a bad name, bad sizes", function()
    t.raises("template", Template.build, world.template(), {})
    for _, case in ipairs { { "Bad Name!", "Invalid template reference" }, { "base", "'base'" },
        { "other/name", "namespace 'other'" } } do
        local e = t.raises("build", world.build, world.template(), case[1])
        t.match(e.message, case[2])
    end
    for opts, text in pairs { [{ cpu_count = 3 }] = "CPU count must be 1 or an even number",
        [{ memory_mb = 64 }] = "memoryMB at least 128",
        [{ memory_mb = 129 }] = "divisible by 2" } do
        t.match(t.raises("build", world.build, world.template(), "size", opts).message, text)
    end
end)

-- ---- uploads ---------------------------------------------------------------------------------

local function upload_link(hash)
    local info = world.build(world.template(), world.unique("upload"))
    local status, link = rig.api("GET", ("/templates/%s/files/%s"):format(info.template_id, hash))
    t.eq(status, 201)
    return link
end

t.test("an upload that is cut in the middle leaves nothing that a build would use", function()
    local hash = wire.random(32)
    local link = upload_link(hash)
    t.eq(link.present, false)
    local x = assert(require("e2b_httpc").open { method = "PUT", url = link.url, upload = true,
        length = 1 << 20, headers = { Connection = "close" } })
    assert(x:write(("x"):rep(100000)))
    local folder = paths.of().uploads
    local function files()
        local found = {}
        for _, name in ipairs(fs.list(folder)) do
            found[#found + 1] = name:sub(1, 64) == hash and name or nil
        end
        return found
    end
    rig.await("the upload does not begin", 5, function()
        return #files() == 1
    end)
    x:close()
    rig.await("the rest of the upload stays", 5, function()
        return #files() == 0
    end)
    t.eq(upload_link(hash).present, false)
end)

t.test("an upload with a wrong or old link is refused", function()
    local link = upload_link(wire.random(32))
    for _, url in ipairs { (link.url:gsub("token=%x", "token=z")),
        (link.url:gsub("expires=%d+", "expires=1")),
        (link.url:gsub("/_upload/%x", "/_upload/0")) } do
        local answer = http.request { method = "PUT", url = url, body = "x", headers = world.ALONE }
        t.eq(answer.status, url == link.url and 200 or 403, url)
    end
end)

t.test("an archive that cannot be unpacked is dropped, and sent anew by the next build", function()
    local dir = world.folder { ["a.txt"] = wire.random(6) }
    local name = world.unique("broken")
    local function template()
        return world.template { file_context_path = dir }:copy("a.txt", "/srv/a.txt")
    end
    local hash = json.decode(Template.to_json(template())).steps[1].filesHash
    http.request { method = "PUT", url = upload_link(hash).url, body = "this is no archive",
        headers = world.ALONE }
    local e = world.failure(template(), name)
    t.match(e.message, "failed to unpack the files of 'a.txt'.*build again to send it anew")
    local _, log = world.build(template(), name)
    t.eq(world.count(log, "Uploaded 'a.txt'"), 1)
    t.eq(world.output(name, "cat /srv/a.txt"), fs.read_file(dir .. "/a.txt"))
end)

-- ---- the engine ------------------------------------------------------------------------------

t.test("a ready command that never succeeds ends the build with the output of both", function()
    local engine = world.engine { E2BLUA_READY_SECONDS = "1.5" }
    local began = task.now()
    local e = fails(world.template()
        :set_start_cmd("echo started; sleep 99", "echo not yet; false"), world.at(engine)) -- ready
    t.match(e.message, "ready command failed: ready command timed out after 1.5 s")
    t.match(e.message, "started")
    t.match(e.message, "not yet")
    t.eq({ e.step, e.where }, { "finalize", line_of("ready") })
    t.ok(task.now() - began < 6, "it took longer than its limit")
    -- One try that hangs is cut off as well.
    e = fails(world.template():set_ready_cmd("sleep 99"), world.at(engine))
    t.match(e.message, "timed out after 1.5 s")
end)

t.test("an engine killed in the middle of a build: the next goes on from the last layer", function()
    local engine = world.engine()
    local name, nonce = world.unique("killed"), wire.random(6)
    local function template(last)
        return world.template():run_cmd("echo " .. nonce .. " > ~/first"):run_cmd(last)
    end
    local info = Template.build_in_background(template("sleep 60"), name, world.at(engine))
    rig.await("the second step does not begin", 10, function()
        local status = Template.get_build_status(info, world.at(engine))
        local last = status.log_entries[#status.log_entries]
        return last and last.step == "2"
    end)
    local box = rig.await("the step has no sandbox", 5, function()
        local socket = fs.list(engine.home.paths.run)[1]
        return socket and socket:match("^(b%w+)%.sock$")
    end)
    local pid = rig.info(engine.home).pid
    os.execute("kill -9 " .. pid)
    rig.await("the engine does not die", 5, function()
        return not process.alive(pid)
    end)
    engine.start()
    local status = Template.get_build_status(info, world.at(engine))
    t.eq(status.status, "error")
    t.match(status.reason.message, "the engine ended while it was building; build again")
    t.eq(fs.stat(paths.of().cache .. "/tmp/" .. box), nil)
    local _, log = world.build(template("echo 2 > ~/second"), name, world.at(engine))
    t.eq(world.cached(log), { "CACHED", "new" })
    local sandbox <close> = Sandbox.create(name, world.at(engine))
    t.eq(sandbox.commands:run("cat first second").stdout, nonce .. "\n2\n")
end)

t.test("who waits for a build whose engine is killed gets a typed error soon", function()
    local home = rig.home()
    local script = ([[
        local e2b = require "e2b"
        local t = e2b.Template():from_base_image():run_cmd("echo one # %s"):run_cmd("sleep 60")
        local ok, e = pcall(e2b.Template.build, t, "killed", { on_build_logs = function(entry)
            io.write(entry.message, "\n") io.flush() end })
        print(ok, e.kind, e.message)
    ]]):format(wire.random(6))
    local c = child.lua(script, { env = home.env })
    c:expect("%[builder 2/2%] RUN sleep 60")
    os.execute("kill -9 " .. rig.info(home).pid)
    local code, out = c:wait(20)
    t.eq(code, 0)
    t.match(out, "false\tbuild\tthe engine ended while it was building; build again")
end)

t.test("a build that is cancelled by its script leaves nothing running", function()
    local name = world.unique("cancel")
    local running = task.spawn_quiet(world.build,
        world.template():run_cmd("sleep 60 # " .. wire.random(6)), name)
    task.sleep(0.5)
    running:cancel()
    t.raises("cancelled", running.join, running, 10)
    -- The build goes on in the engine; another takes its place.
    world.build(world.template():run_cmd("true # " .. wire.random(6)), name)
    local _, status = rig.api("GET", "/templates")
    local found
    for _, doc in ipairs(status) do
        found = found or doc.aliases[1] == name and doc
    end
    t.eq(found.buildStatus, "ready")
end)
