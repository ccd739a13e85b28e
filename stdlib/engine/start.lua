-- Start and ready commands: at build they are run and checked, at create the
-- start command is started again and the ready command waited for. Source:
-- template reference, section 4.6.
local Error = require "e2b.error"
local envd = require "engine.envd"
local task = require "e2b_task"

local M = {}

local CREATE_SECONDS <const> = 50 -- official clients give up at 60
---Seconds that a build waits for its ready command.
M.BUILD_SECONDS = 600
local DEFAULT_READY <const> = "sleep 20"
local TAIL <const> = 4096

-- wait_for_timeout is a wait at build only.
local function is_plain_sleep(command)
    return command:find("^%s*sleep%s+[%d.]+%s*$") ~= nil
end

local function new_tail()
    local text = ""
    return function(bytes)
        text = (text .. bytes):sub(-TAIL)
    end, function()
        return text
    end
end

local function command_of(record, command, timeout)
    return {
        command = command,
        user = record.user,
        cwd = record.workdir,
        envs = record.env,
        timeout = timeout,
    }
end

-- Runs the ready command until it succeeds.
local function await_ready(target, record, running, deadline, on_output)
    local ready = record.ready or DEFAULT_READY
    local pause = 0.02
    while true do
        local left = deadline - task.now()
        if left <= 0 then
            return false
        end
        local ok, result = pcall(envd.run, target, command_of(record, ready, left), on_output)
        if not ok and not Error.is(result, "timeout") then
            error(result, 0)
        end
        running()
        if ok and result.exit_code == 0 then
            return true
        end
        task.sleep(math.min(pause, math.max(0, deadline - task.now())))
        pause = math.min(pause * 1.5, 2)
    end
end

-- Starts the command; running() raises once it has failed.
local function begin(target, record, on_line)
    local add, tail = new_tail()
    local outcome
    envd.start(target, command_of(record, record.cmd), function(stream, bytes)
        add(bytes)
        on_line(stream, bytes)
    end, function(result)
        outcome = result
    end)
    local function running()
        if outcome and outcome.exit_code ~= 0 then
            Error.raise("build",
                ("start command failed: error running start command: %s; its output ends:\n%s")
                :format(outcome.error or "unknown", tail()))
        end
    end
    return running, tail
end

---Starts the start command in a new sandbox and waits until it is ready.
---@param target engine.EnvdTarget
---@param record {cmd: string, ready: string|nil, user: string, workdir: string|nil, env: table}
function M.at_create(target, record)
    local running, tail = begin(target, record, function() end)
    if is_plain_sleep(record.ready or DEFAULT_READY) then
        return
    end
    local deadline = task.now() + CREATE_SECONDS
    if not await_ready(target, record, running, deadline, function() end) then
        Error.raise("timeout", ("the start command was not ready within %d s (ready command:" ..
            " %s); its output ends:\n%s"):format(CREATE_SECONDS, record.ready, tail()),
            { deadline = "request" })
    end
end

---The same at build, with its output in the build's log.
---@param target engine.EnvdTarget
---@param record table
---@param on_output fun(command: "start"|"ready", stream: string, bytes: string)
---@param seconds number
function M.at_build(target, record, on_output, seconds)
    local running = function() end
    if record.cmd then
        running = begin(target, record, function(stream, bytes)
            on_output("start", stream, bytes)
        end)
    end
    local deadline = task.now() + seconds
    if not await_ready(target, record, running, deadline, function(stream, bytes)
        on_output("ready", stream, bytes)
    end) then
        Error.raise("build", ("ready command failed: ready command timed out after %g s: %s")
            :format(seconds, record.ready or DEFAULT_READY))
    end
end

return M
