-- Bash: a command in the sandbox.
local Error = require "e2b.error"
local text = require "agent.text"
local tools = require "agent.tools"
local wire = require "e2b_wire"

local M = { name = "Bash" }

local DEFAULT_MS = 120000
local MAX_MS = 600000
local MAX_OUTPUT = 30000

M.description = "Runs a command with bash in the sandbox and returns its output. Each command "
    .. "starts in the working directory. Output beyond " .. MAX_OUTPUT .. " bytes is shortened. "
    .. "For servers and other things that go on use run_in_background."

M.parameters = {
    { name = "command", type = "string", required = true, description = "The command" },
    { name = "description", type = "string", description = "What it does, in 5 to 10 words" },
    { name = "timeout", type = "integer",
        description = ("Milliseconds, at most %d (default %d)"):format(MAX_MS, DEFAULT_MS) },
    { name = "run_in_background", type = "boolean",
        description = "Do not wait for its end; its output goes to a file that is named" },
}

local function output(result)
    local out = result.stdout:gsub("%s+$", "")
    local err = result.stderr:gsub("%s+$", "")
    local both = out .. (out ~= "" and err ~= "" and "\n" or "") .. err
    return text.shorten(wire.utf8(both), MAX_OUTPUT)
end

local function data(result, interrupted)
    return { stdout = result.stdout, stderr = result.stderr, exit_code = result.exit_code,
        interrupted = interrupted or false, isImage = false }
end

local function background(context, input)
    local id = "bash_" .. wire.random(4)
    local file = "/tmp/" .. id .. ".output"
    local handle = context.sandbox.commands:run(
        ("exec >%s 2>&1\n%s"):format(file, input.command), { background = true,
            cwd = context.workdir, envs = context.env, user = context.user, timeout = 0 })
    local pid = handle.pid
    handle:disconnect()
    return { content = ("Command running in background with ID: %s. Output is being written to: "
        .. "%s. It is stopped with: kill -- -%d"):format(id, file, pid),
        data = { stdout = "", stderr = "", interrupted = false, backgroundTaskId = id,
            pid = pid } }
end

---Runs a command, as the model asked for it.
---@param context table of agent.tools' context
---@param input table what the tool's schema allows
---@return table answer {content, data?, is_error?}
function M.run(context, input)
    if input.run_in_background then
        return background(context, input)
    end
    local ms = math.min(math.max(input.timeout or DEFAULT_MS, 1), MAX_MS)
    local commands = context.sandbox.commands
    local ok, result = pcall(commands.run, commands, input.command, { cwd = context.workdir,
        envs = context.env, user = context.user, timeout = ms / 1000 })
    if ok then
        local said = output(result)
        return { content = said ~= "" and said or "(no output)", data = data(result) }
    elseif Error.is(result, "command_exit") and result.result then
        local said = output(result.result)
        return { content = ("Exit code %d%s"):format(result.result.exit_code,
            said ~= "" and "\n" .. said or ""), is_error = true, data = data(result.result) }
    elseif Error.is(result, "timeout") and result.deadline == "command" then
        return tools.failure(("Command timed out after %.1f s"):format(ms / 1000))
    end
    error(result, 0)
end

return M
