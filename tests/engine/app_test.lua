-- The bundled app as a newcomer runs it: the program as a process of its own,
-- offline, then its page in a browser. Uses the engine of $E2BLUA_HOME.
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local checks = require "calculator_checks"
local child = require "child"
local fs = require "e2b_fs"
local http = require "e2b.http"
local process = require "e2b_process"
local rig = require "engine_rig"
local runner = require "agent.runner"
local t = require "tests"
local task = require "e2b_task"
local webdriver = require "webdriver"
local world = require "template_world"

local SECRET <const> = "sk-ant-of-nobody-0123456789"
local OFFLINE <const> = { E2BLUA_MODEL = "offline", ANTHROPIC_API_KEY = SECRET }

local app = {} -- of the run whose page the tests look at: url, id, code, output, seconds

local function start(...)
    local began = task.now()
    local code, output = child.start({ process.exe(), "apps/calculator.lua", ... },
        { env = OFFLINE, dir = fs.cwd() }):wait(50)
    return { code = code, output = output, seconds = task.now() - began,
        url = output:match("\n  (http://%S+)\n"), id = output:match("\n  sandbox  (%w+),") }
end

local function get(url)
    return http.get(url, { headers = world.ALONE })
end

-- The sandbox of the app. The last request of the test closes the connection
-- that the others have kept.
local function connect()
    t.cleanup(function()
        Template.exists("base", { headers = world.ALONE })
    end)
    return Sandbox.connect(app.id)
end

t.before(function()
    app = start()
end)

t.test("the app ends well and says where its page is", function()
    t.eq(app.code, 0, app.output)
    t.match(app.output, "offline: replaying a scripted conversation, no model is called")
    for _, step in ipairs { "engine", "template web_app", "sandbox", "Write",
        "waiting for port 3000" } do
        t.match("\n" .. app.output, "\nok [^\n]*" .. step .. "[^\n]* %d+%.%d s\n", step)
    end
    t.ok(app.url and app.id, app.output)
    t.match(app.url, "^http://3000%-" .. app.id .. "%.e2b%.localhost:%d+$")
    t.match(app.output, "sandbox  %w+, ends at %d%d:%d%d:%d%d %(in 60 min%)\n")
    t.match(app.output, "extend   %S+ .-set_timeout%(\"" .. app.id)
    t.match(app.output, "end it   %S+ kill " .. app.id)
end)

t.test("what it prints into a file has plain lines", function()
    t.ok(not app.output:find("[\r\27]"), "there are control characters")
    t.eq(app.output:sub(-1), "\n")
end)

t.test("no key is printed, logged, or in the sandbox", function()
    local info = rig.info()
    local sandbox = connect()
    local inside = sandbox.commands:run(
        "cat /proc/[0-9]*/environ | tr '\\0' '\\n'", { user = "root" })
    t.match(inside.stdout, "\nHOME=")
    local log = fs.read_file(require("engine.paths").of().log, 1 << 24)
    for _, secret in ipairs { SECRET, info.api_key } do
        for where, text in pairs { output = app.output, log = log, sandbox = inside.stdout } do
            t.ok(not text:find(secret, 1, true), "a key is in the " .. where)
        end
    end
end)

t.test("its page is what the agent wrote in the sandbox", function()
    local page = get(app.url .. "/")
    t.eq(page.status, 200)
    local sandbox = connect()
    t.eq(page.body, sandbox.files:read("/home/user/app/index.html"))
    t.eq(sandbox.commands:run("stat -c %U /home/user/app/index.html").stdout, "user\n")
end)

for _, check in ipairs(checks) do
    t.test("the calculator of the sandbox " .. check.name, function()
        local browser <close> = webdriver.open(check.look)
        browser:go(app.url .. "/")
        check.run(browser)
    end)
end

t.test("without its file in the sandbox the page is gone", function()
    connect().files:remove("/home/user/app/index.html")
    t.eq(get(app.url .. "/index.html").status, 404)
    t.ok(not get(app.url .. "/").body:find("calculator", 1, true), "the page is still there")
end)

t.test("the command that it names ends the sandbox", function()
    local command = app.output:match("end it   (%S+) kill ")
    local code, output = child.start({ command, "kill", app.id }, { dir = fs.cwd() }):wait(10)
    t.eq(code, 0, output)
    t.raises("sandbox_not_found", Sandbox.get_info, app.id, { headers = world.ALONE })
    t.ok(get(app.url .. "/").status >= 400, "the URL still answers")
end)

local function ids()
    local out = {}
    local status, list = rig.api("GET", "/v2/sandboxes")
    t.eq(status, 200)
    for i, doc in ipairs(list) do
        out[i] = doc.sandboxID
    end
    return out
end

t.test("the second run takes seconds, and --once leaves nothing", function()
    local before = ids()
    local again = start("--once")
    t.ok(not again.output:find "extend", "it says how to extend what is gone")
    t.eq(again.code, 0, again.output)
    t.ok(again.seconds < 10, ("it took %.1f s"):format(again.seconds))
    t.match(again.output, "fetched / %(200, %d+ bytes%); the sandbox is gone\n$")
    t.eq(ids(), before)
end)

t.test("an unknown option is refused before anything is made", function()
    local bad = start("--onec")
    t.eq(bad.code, 2)
    t.match(bad.output, "unknown option .*Did you mean .%-%-once.?")
end)

t.test("the same tape in two working directories", function()
    local pages = {}
    for i, workdir in ipairs { "/home/user/app", "/home/user/app/below it" } do
        local r = runner.run_code_with_service("tasks/calculator.lua", { template = "web_app",
            service_port = 3000, workdir = workdir, timeout = 120, progress = false,
            tape = "scripts/tasks/calculator.tape.jsonl" })
        t.cleanup(function()
            Sandbox.kill(r.sandbox_id, { headers = world.ALONE })
        end)
        t.eq({ r.exit_code, r.files }, { 0, { "index.html" } })
        pages[i] = get(r.service_url .. (i == 1 and "/" or "/below%20it/")).body
        t.ok(#pages[i] > 5000, "there is no page in " .. workdir)
    end
    t.eq(pages[1], pages[2])
end)

t.test("a run that is interrupted leaves no sandbox", function()
    local before = ids()
    local c = child.start({ process.exe(), "apps/calculator.lua" },
        { env = OFFLINE, dir = fs.cwd() })
    c:expect("ok sandbox %(", 20)
    c:signal "INT"
    local code, output = c:wait(15)
    t.eq(code, 130, output)
    t.eq(ids(), before)
end)
