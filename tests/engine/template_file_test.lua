-- Template files: scripts/build_template.lua, .template_id, and the runner that
-- takes its template from either. Uses the engine of $E2BLUA_HOME.
local child = require "child"
local fs = require "e2b_fs"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"
local wire = require "e2b_wire"
local world = require "template_world"

t.before(world.warm_up)

local TEMPLATE <const> = [[
local e2b = require "e2b"
return e2b.Template():from_base_image():copy("data.txt", "/srv/data.txt")%s,
    { name = "%s", cpu_count = 1 }
]]

-- A project with a template file; what it builds has that name.
local function project(more)
    local name = world.unique("file")
    local dir = world.folder {
        ["templates/mine.lua"] = TEMPLATE:format(more or "", name),
        ["templates/data.txt"] = "data " .. wire.random(6),
        ["scripts/task.lua"] = [[
            local task = ...
            local show = "cat /srv/data.txt; echo; echo $E2B_TEMPLATE_ID"
            print(task.sandbox.commands:run(show).stdout)
        ]],
        ["scripts/run.lua"] = [[
            local r = require("e2b").agent.run_code_in_sandbox("task.lua", { template = arg[1] })
            os.exit(r.exit_code)
        ]],
    }
    return dir, name, fs.read_file(dir .. "/templates/data.txt")
end

local function run(dir, ...)
    return child.start({ process.exe(), ... }, { dir = dir }):wait(30)
end

t.test("build_template builds a file and notes its id, a line for each backend", function()
    local dir, name, data = project()
    assert(fs.write_file(dir .. "/.template_id", "https://api.e2b.app abc123\nlocal old\n"))
    for _, how in ipairs { "templates/mine.lua", "mine" } do
        local code, out = run(dir, "build_template.lua", how)
        t.eq(code, 0, out)
        local id = t.match(out, "Template " .. name:gsub("%-", "%%-")
            .. " is ready: (%w+) %(noted in ")
        t.match(out, "INFO  .*COPY data.txt")
        t.eq(fs.read_file(dir .. "/.template_id"),
            "https://api.e2b.app abc123\nlocal " .. id .. "\n")
        t.eq(world.output(id, "cat /srv/data.txt"), data)
        local sandbox <close> = world.sandbox(id)
        t.eq(sandbox:get_info().cpu_count, 1)
    end
end)

t.test("a run takes the template of .template_id, or builds the one it names", function()
    local dir, _, data = project()
    local code, out = run(dir, "build_template.lua", "mine")
    t.eq(code, 0, out)
    local id = t.match(fs.read_file(dir .. "/.template_id"), "^local (%w+)\n$")
    code, out = run(dir, "run.lua")
    t.eq(code, 0, out)
    t.ok(out:find(data .. "\n" .. id, 1, true), out)
    code, out = run(dir, "run.lua", "mine")
    t.eq(code, 0, out)
    t.match(out, "ok template mine")
    t.ok(out:find(data, 1, true), out)
end)

t.test("an id that is gone: the error says how to build it anew", function()
    local dir = project()
    assert(fs.write_file(dir .. "/.template_id", "local gone0123456789\n"))
    local code, out = run(dir, "run.lua")
    t.eq(code, 1)
    t.match(out, "gone0123456789")
    t.match(out, "build_template.lua FILE")
end)

t.test("a failing template file: step, line and output, and nothing is noted", function()
    local dir = project('\n    :run_cmd("echo why; exit 5")')
    local code, out = run(dir, "build_template.lua", "mine")
    t.eq(code, 1)
    t.match(out, "mine.lua:3: step 2 %(RUN echo why; exit 5%) failed: .*exit status 5")
    t.match(out, "\n +why\n")
    t.eq(fs.stat(dir .. "/.template_id"), nil)
    code, out = run(dir, "run.lua", "mine")
    t.eq(code, 1)
    t.match(out, "mine.lua:3: step 2")
end)

t.test("a file that is none, that does not load, that returns nothing", function()
    local dir = project()
    for content, text in pairs { ["return 1 +"] = "mine.lua:1: unexpected symbol",
        ["local x = 1"] = "must return a template, not nothing" } do
        assert(fs.write_file(dir .. "/templates/mine.lua", content))
        local code, out = run(dir, "build_template.lua", "mine")
        t.eq(code, 1)
        t.match(out, text)
    end
    local code, out = run(dir, "build_template.lua", "other")
    t.eq(code, 1)
    t.match(out, "there is no template file other")
    code, out = run(dir, "build_template.lua")
    t.eq(code, 1)
    t.match(out, "usage: e2blua build_template.lua FILE")
end)

t.test("the bundled template is ready without a download, and shows a folder", function()
    local dir = world.folder { ["scripts/x"] = "" }
    local code, out = run(dir, "-e", [[
        local e2b = require "e2b"
        local source = require("e2b_carried").read("templates/web_app.lua")
        local template, opts = load(source, "@templates/web_app.lua")()
        opts.skip_cache = true
        print(e2b.Template.build(template, opts).template_id)
    ]])
    t.eq(code, 0, out)
    local sandbox <close> = world.sandbox("web_app")
    sandbox.files:write("/home/user/app/x.txt", "served")
    t.eq(sandbox.commands:run("curl -s localhost:3000/x.txt; pwd").stdout, "served/home/user/app\n")
    local status, _, body = rig.request { url = sandbox:get_url(3000) .. "/x.txt" }
    t.eq({ status, body }, { 200, "served" })
end)
