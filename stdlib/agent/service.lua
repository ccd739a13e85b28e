-- A service in a sandbox: waits for its port, and says where it is.
local Error = require "e2b.error"
local program = require "e2b.program"

local M = {}

local PORT_TIMEOUT = 30
local NOT_OPEN = 75

local WAIT = [[end=$((SECONDS + %d))
while :; do
    found=$(ss -Htln "sport = :%d") || exit
    [ -n "$found" ] && exit 0
    [ $SECONDS -ge $end ] && exit %d
    sleep 0.05
done]]

-- What listens in the sandbox, for people: "8080 on 127.0.0.1 (python3)". Asked
-- as the user who runs the servers: root without ptrace does not see programs.
local function listening(sandbox)
    local result = sandbox.commands:run("ss -Htlnp")
    local out = {}
    for line in result.stdout:gmatch("[^\n]+") do
        local address, port = line:match("^%S+%s+%S+%s+%S+%s+(%S+):(%d+)%s")
        if port then
            local server = line:match('users:%(%("([^"]+)"')
            out[#out + 1] = ("%s on %s%s"):format(port, address,
                server and " (" .. server .. ")" or "")
        end
    end
    return #out > 0 and table.concat(out, ", ") or "nothing"
end

---Waits until something listens on a port of the sandbox.
---@param run table sandbox, progress
---@param port integer
---@param seconds? number default 30
---Raises timeout; its text says what was listening instead.
function M.await_port(run, port, seconds)
    seconds = math.ceil(seconds or PORT_TIMEOUT)
    local step <close> = run.progress:step(("waiting for port %d"):format(port))
    local commands = run.sandbox.commands
    local ok, err = pcall(commands.run, commands, WAIT:format(seconds, port, NOT_OPEN),
        { timeout = seconds + 10 })
    if ok then
        step:done()
        return
    elseif not Error.is(err, "command_exit") or err.result.exit_code ~= NOT_OPEN then
        error(err, 0)
    end
    Error.raise("timeout", ("port %d was not open within %d s; listening in the sandbox: %s")
        :format(port, seconds, listening(run.sandbox)), { op = "agent.run_code_with_service",
        deadline = "task", remedy = "let the task or the template's start command start a server "
        .. ("on port %d"):format(port) })
end

---Says where the service is, when it ends, how to extend and how to kill it.
---@param run table sandbox, progress, ends_at
---@param url string
function M.announce(run, url)
    local id = run.sandbox.sandbox_id
    local function line(...)
        run.progress:line((...):format(select(2, ...)))
    end
    line("")
    line("  %s", url)
    line("")
    line("  sandbox  %s, ends at %s (in %d min)", id, os.date("%H:%M:%S", run.ends_at),
        (run.ends_at - os.time() + 30) // 60)
    local name = program.name()
    line("  extend   %s -e 'require(\"e2b\").Sandbox.set_timeout(\"%s\", 7200)'", name, id)
    line("  end it   %s kill %s", name, id)
end

return M
