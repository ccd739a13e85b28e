-- Tasks of every language in real sandboxes, and the templates they are given.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local fs = require "e2b_fs"
local http = require "e2b.http"
local process = require "e2b_process"
local rig = require "engine_rig"
local runner = require "agent.runner"
local t = require "tests"

t.before(rig.warm_up)

local function file(name, text)
    local path = t.tmpdir() .. "/" .. name
    assert(fs.write_file(path, text))
    return path
end

local function quiet(more)
    more = more or {}
    more.progress, more.timeout = false, 60
    return more
end

t.test("Python, JavaScript and shell tasks run inside, in the working directory", function()
    for name, text in pairs {
        ["a.py"] = "import os\nopen('made', 'w').write(os.environ['WORD'])\nprint(os.getcwd())",
        ["a.js"] = "require('fs').writeFileSync('made', process.env.WORD)\n"
            .. "console.log(process.cwd())",
        ["a.sh"] = "printf %s $WORD >made; pwd",
    } do
        local r = runner.run_code_in_sandbox(file(name, text), quiet { workdir = "/home/user/w d",
            env_vars = { WORD = "hello" } })
        t.eq({ r.exit_code, r.stdout, r.error }, { 0, "/home/user/w d\n" }, name)
        t.eq(r.added, { { path = "made", size = 5 } })
        t.eq({ r.files, r.changed, r.removed }, { { "made" }, {}, {} })
        t.raises("sandbox_not_found", Sandbox.get_info, r.sandbox_id)
    end
end)

t.test("a Python task that crashes has its traceback in the error", function()
    local r = runner.run_code_in_sandbox(file("crash.py", "def f():\n    return {}['k']\nf()\n"),
        quiet())
    t.eq(r.exit_code, 1)
    t.match(r.error.message, 'line 2, in f\n.*KeyError: \'k\'$')
end)

t.test("a task in a language the sandbox lacks says so and ends the sandbox", function()
    local runs = 0
    local create = Sandbox.create
    t.cleanup(function()
        Sandbox.create = create
    end)
    local id
    Sandbox.create = function(...)
        local sandbox = create(...)
        id, runs = sandbox.sandbox_id, runs + 1
        sandbox.commands:run("rm -f /usr/local/bin/node /usr/bin/node*", { user = "root" })
        return sandbox
    end
    local e = t.raises("unsupported", runner.run_code_in_sandbox, file("a.js", ""), quiet())
    t.match(e.message, "this sandbox has no javascript %(looked for node, nodejs%)")
    t.eq(runs, 1)
    t.raises("sandbox_not_found", Sandbox.get_info, id)
end)

t.test("a Python task leaves its service running", function()
    local r = runner.run_code_with_service(file("serve.py", [[
import subprocess
open('index.html', 'w').write('by python')
subprocess.Popen(['python3', '-m', 'http.server', '8123'], start_new_session=True,
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
]]), quiet { service_port = 8123 })
    t.cleanup(function()
        Sandbox.kill(r.sandbox_id)
    end)
    t.eq({ r.exit_code, r.error }, { 0 })
    t.eq(http.get(r.service_url .. "/", { headers = { Connection = "close" } }).body, "by python")
end)

t.test("a task has no way out unless it names hosts", function()
    local r = runner.run_code_in_sandbox(file("a.lua", [[
        local task = ...
        print(task.sandbox:get_info().allow_internet_access)
    ]]), quiet())
    t.eq(r.stdout, "false\n")
end)

-- ---- templates -----------------------------------------------------------------

local RUN = [[
    local e2b = require "e2b"
    local r = e2b.agent.run_code_in_sandbox("t.sh", { timeout = 60, %s })
    os.exit(r.exit_code)
]]

local function project(options)
    local dir = t.tmpdir()
    assert(fs.mkdirs(dir .. "/scripts"))
    assert(fs.mkdirs(dir .. "/templates"))
    assert(fs.mkdirs(dir .. "/.git"))
    assert(fs.write_file(dir .. "/scripts/run.lua", RUN:format(options or "")))
    assert(fs.write_file(dir .. "/scripts/t.sh", "cat /home/user/mark"))
    assert(fs.write_file(dir .. "/templates/marked.lua", [[
        local e2b = require "e2b"
        return e2b.Template():from_base_image():run_cmd("echo marked >/home/user/mark")]]))
    return dir
end

local function e2blua(dir, ...)
    return child.start({ process.exe(), ... }, { dir = dir }):wait(50)
end

t.test("template = NAME is built on demand from templates/", function()
    local code, out = e2blua(project 'template = "marked"', "run.lua")
    t.eq(code, 0, out)
    t.match(out, "template marked")
    t.match(out, "\nmarked\n")
end)

t.test(".template_id is used without a template; a stale one says how to build it anew", function()
    local dir = project()
    local code, out = e2blua(dir, "build_template.lua", "templates/marked.lua")
    t.eq(code, 0, out)
    code, out = e2blua(dir, "run.lua")
    t.eq(code, 0, out)
    t.match(out, "\nmarked\n")
    for _, note in ipairs { "local gonegonegone\n", "https://elsewhere.example 1\ngonegonegone" } do
        assert(fs.write_file(dir .. "/.template_id", note))
        code, out = e2blua(dir, "run.lua")
        t.eq(code, 1, out)
        t.match(out, "the template gonegonegone, which .template_id names for this backend, is g")
        t.match(out, "build it anew: e2blua build_template.lua FILE")
    end
end)

t.test("a template that is neither file nor known is told as such", function()
    local code, out = e2blua(project 'template = "nowhere"', "run.lua")
    t.eq(code, 1, out)
    t.match(out, "template 'nowhere' not found")
    code, out = e2blua(project 'template = "nowhere.lua"', "run.lua")
    t.eq(code, 1, out)
    t.match(out, "there is no template file nowhere.lua; looked for")
end)
