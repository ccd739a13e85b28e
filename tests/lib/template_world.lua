--- For tests of builds on the real engine: templates whose layers no other test has, their logs,
--- and programs beside the test.
local Error = require "e2b.error"
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local fs = require "e2b_fs"
local process = require "e2b_process"
local t = require "tests"
local task = require "e2b_task"
local wire = require "e2b_wire"

local M = {}

--- A name that nothing else has.
---@param prefix string
---@return string
function M.unique(prefix)
    return prefix .. "-" .. wire.random(6)
end

--- A folder with the files, removed after the test. A value is the content of a regular file.
---@param files table<string, string>
---@return string path
function M.folder(files)
    local dir = t.tmpdir()
    for name, content in pairs(files) do
        local path = dir .. "/" .. name
        Error.check(fs.mkdirs(path:match("^(.*)/")))
        Error.check(fs.write_file(path, content))
    end
    return dir
end

--- A template on the base image.
---@param opts? table of Template()
---@return e2b.Template
function M.template(opts)
    return Template(opts):from_base_image()
end

---@class Log
---@field [integer] e2b.LogEntry

--- Builds; returns the log beside what build returned.
---@param template e2b.Template
---@param name string
---@param opts? table
---@return e2b.BuildInfo info
---@return Log log
function M.build(template, name, opts)
    local log = {}
    local o = {}
    for k, v in pairs(opts or {}) do
        o[k] = v
    end
    o.on_build_logs = function(entry)
        log[#log + 1] = entry
    end
    return Template.build(template, name, o), log
end

--- The failure of a build, which must be of kind build.
---@return e2b.Error e
function M.failure(template, name, opts)
    return t.raises("build", M.build, template, name, opts)
end

--- How many messages of the log hold the text.
---@param log Log
---@param text string
---@return integer
function M.count(log, text)
    local n = 0
    for _, entry in ipairs(log) do
        n = n + (entry.message:find(text, 1, true) and 1 or 0)
    end
    return n
end

--- Which of the instructions came from the cache: "CACHED", "new" by number.
---@param log Log
---@return string[]
function M.cached(log)
    local out = {}
    for _, entry in ipairs(log) do
        local mark, number = entry.message:match("^(C?A?C?H?E?D?) ?%[builder (%d+)/%d+%] %u+ .* %[%x+%]$")
        if number then
            out[tonumber(number)] = mark == "CACHED" and "CACHED" or "new"
        end
    end
    return out
end

--- A sandbox of a template, without network, for a <close> variable.
---@param name string
---@return e2b.Sandbox
function M.sandbox(name)
    return Sandbox.create(name, { timeout = 60, allow_internet_access = false })
end

--- What a command writes in a new sandbox of the template.
---@param name string
---@param command string
---@param opts? table
---@return string
function M.output(name, command, opts)
    local sandbox <close> = M.sandbox(name)
    return sandbox.commands:run(command, opts).stdout
end

-- ---- programs -------------------------------------------------------------------------------

local function quote(word)
    return "'" .. word:gsub("'", "'\\''") .. "'"
end

---@class Child
---@field log string path of its output
local Child = {}
Child.__index = Child

--- Starts a program of its own session with its output, both streams, in a file.
---@param argv string[]
---@param opts? {env: table<string, string|false>, cwd: string} env: over the test's; false takes away
---@return Child
function M.start(argv, opts)
    opts = opts or {}
    local dir = t.tmpdir()
    local env = {}
    for name, value in pairs(fs.environ()) do
        env[name] = value
    end
    for name, value in pairs(opts.env or {}) do
        env[name] = value or nil
    end
    local list = {}
    for name, value in pairs(env) do
        list[#list + 1] = name .. "=" .. value
    end
    local words = {}
    for i, word in ipairs(argv) do
        words[i] = quote(word)
    end
    local line = ("cd %s && %s; echo $? > %s/code"):format(quote(opts.cwd or fs.cwd()),
        table.concat(words, " "), dir)
    local self = setmetatable({ log = dir .. "/log", code = dir .. "/code" }, Child)
    self.pid = Error.check(process.spawn_daemon({ "/bin/sh", "-c", line }, self.log, list))
    return self
end

---@return string output so far
function Child:output()
    return fs.read_file(self.log, 1 << 24) or ""
end

--- Waits until it has ended.
---@param seconds number
---@return integer exit_code
function Child:wait(seconds)
    local deadline = task.now() + seconds
    while not fs.stat(self.code) do
        t.ok(task.now() < deadline, ("the program did not end within %g s; its output:\n%s"):format(
            seconds, self:output()))
        task.sleep(0.02)
    end
    task.sleep(0.02)
    return math.tointeger(tonumber(fs.read_file(self.code):match("%d+")))
end

--- This program with a script.
---@param argv string[] from the script's name on
---@param opts? table as of start
---@return Child
function M.run(argv, opts)
    return M.start({ process.exe(), table.unpack(argv) }, opts)
end

-- ---- engines of their own -------------------------------------------------------------------

--- An engine with its own home, ended after the test, and the options with which calls reach it.
---@param env? table<string, string>
---@return {home: string, pid: integer, options: table, restart: fun()} engine
function M.engine(env)
    local client = require "engine.client"
    local paths = require "engine.paths"
    local home = t.tmpdir() .. "/home"
    local p = paths.of(home)
    Error.check(fs.mkdirs(home, 448))
    local engine = { home = home }
    t.cleanup(function()
        client.stop(p)
    end)
    function engine.restart()
        local set = { E2BLUA_PORT = "0" }
        for name, value in pairs(env or {}) do
            set[name] = value
        end
        M.run({ "engine", "serve", p.home, p.cache }, { env = set })
        local deadline = task.now() + 20
        local status
        repeat
            task.sleep(0.02)
            status = client.status(p)
        until status or task.now() > deadline
        t.ok(status, "the engine did not start: " .. (fs.read_file(p.log) or ""))
        local info = client.info(p)
        engine.pid = info.pid
        engine.options = {
            api_url = ("http://127.0.0.1:%d"):format(info.port),
            sandbox_url = ("http://127.0.0.1:%d"):format(info.port),
            api_key = info.api_key,
            domain = info.domain,
        }
    end
    engine.restart()
    return engine
end

--- The options of a call that reaches the engine, and others.
---@param engine table
---@param opts? table
---@return table
function M.at(engine, opts)
    local o = {}
    for _, from in ipairs { engine.options, opts or {} } do
        for k, v in pairs(from) do
            o[k] = v
        end
    end
    return o
end

return M
