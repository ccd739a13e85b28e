--- For tests of builds on the real engine: templates whose layers no other test has, their logs,
--- and engines of their own.
local Error = require "e2b.error"
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local child = require "child"
local fs = require "e2b_fs"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"
local wire = require "e2b_wire"

local M = {}

-- Requests side by side would leave connections in the client's pool, which
-- count as left behind by the test.
M.ALONE = { Connection = "close" }

--- For t.before: connections to the engine for builds side by side.
function M.warm_up()
    rig.warm_up()
    local tasks = {}
    for i = 1, 4 do
        tasks[i] = task.spawn(Sandbox.kill, "i" .. i, { headers = M.ALONE })
    end
    for _, running in ipairs(tasks) do
        running:join(30)
    end
end

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
    local o = { headers = M.ALONE }
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
        local mark, number = entry.message:match(
            "^(C?A?C?H?E?D?) ?%[builder (%d+)/%d+%] %u+ .* %[%x+%]$")
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
    return Sandbox.create(name, { timeout = 60, allow_internet_access = false, headers = M.ALONE })
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

-- ---- engines of their own -------------------------------------------------------------------

--- A home of its own, ended after the test, and the options with which calls reach its engine.
---@param env? table<string, string> for the engine
---@return {home: table, options: table, start: fun()} engine
function M.engine(env)
    local engine = { home = rig.home() }
    function engine.start()
        local all = { E2BLUA_HOME = engine.home.path }
        for name, value in pairs(env or {}) do
            all[name] = value
        end
        local code, out = child.lua("require('engine.client').ensure()", { env = all }):wait(20)
        t.eq(code, 0, out)
        engine.options = rig.options(engine.home)
    end
    engine.start()
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
