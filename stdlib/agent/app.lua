-- What the apps share: their command line, and a service that an agent makes.
--
--     os.exit(e2b.agent.run_app(arg, { name = "memo", task = "tasks/memo.lua", ... }))
local Sandbox = require "e2b.sandbox"
local check = require "e2b.options"
local http = require "e2b.http"
local runner = require "agent.runner"
local task = require "e2b_task"

local M = {}

local SPEC = {
    name = "text",
    task = "text",
    template = "text",
    service_port = "count",
    timeout = "seconds",
    description = "text",
    env_vars = "map",
    allow_out = "table",
    tape = "text",
    port_timeout = "seconds",
    paths = "table",
}

local function seconds(text)
    local n = tonumber(text)
    if n and n > 0 and n < math.huge then
        return n
    end
    return nil, ("%s is no number of seconds"):format(text)
end

local function parser_of(app)
    local parser = require "argparse"("e2blua apps/" .. app.name .. ".lua", app.description
        or ("Lets an agent make the app %s in a sandbox and says its URL."):format(app.name))
    parser:option("--record", "Write what the agent does to FILE, a tape that replays.")
        :argname "FILE"
    parser:option("--timeout", ("Seconds that the sandbox lives (default %d)."):format(app.timeout))
        :argname "SECONDS":convert(seconds)
    parser:option("--template", "Template of the sandbox" .. (app.template
        and " (default " .. app.template .. ")." or ".")):argname "NAME"
    parser:flag("--once", "End the sandbox when it has answered.")
    return parser
end

---The command line of an app: --record FILE, --timeout SECONDS, --template NAME, --once, --help.
---@param words string[]
---@param app table name, timeout, template, description
---@return table|nil options record, timeout, template, once
---@return string|nil text usage, or what is wrong
---@return integer|nil exit_code 0 after --help, 2 for a wrong word
function M.arguments(words, app)
    local parser = parser_of(app)
    parser:add_help(false)
    for _, word in ipairs(words) do
        if word == "--help" or word == "-h" then
            return nil, parser:get_help(), 0
        end
    end
    local ok, found = parser:pparse(words)
    if not ok then
        return nil, ("%s: %s\n%s"):format(app.name, found, parser:get_usage()), 2
    end
    return found
end

-- Fetches the paths and ends the sandbox, whatever came.
local function fetch_once(result, paths)
    local said, good = {}, true
    local ok, err = pcall(function()
        for i, path in ipairs(paths) do
            local page = http.get(result.service_url .. path)
            said[i] = ("%s (%d, %d bytes)"):format(path, page.status, #page.body)
            good = good and page.status == 200
        end
    end)
    task.shield(Sandbox.kill, result.sandbox_id)
    if not ok then
        error(err, 0)
    end
    print(("fetched %s; the sandbox is gone"):format(table.concat(said, ", ")))
    return good and 0 or 1
end

---Runs an app: its task with a service, as the command line says.
---@param words string[] the script's `arg`
---@param app table name, task, service_port (all required); timeout (default 3600), template,
---description, paths (what --once fetches, default {"/"}), and env_vars, allow_out, tape,
---port_timeout as of agent.run_code_with_service
---@return integer exit_code for os.exit: that of the task; 2: wrong words
---Raises as agent.run_code_with_service.
function M.run(words, app)
    local op = "agent.run_app"
    check.value(op, "the first argument", words, "table")
    local o = check.check(op, app, SPEC)
    for name, kind in pairs { name = "text", task = "text", service_port = "count" } do
        check.value(op, name, o[name], kind)
    end
    for i, path in ipairs(o.paths or {}) do
        check.value(op, ("path %d"):format(i), path, "text")
    end
    o.timeout = o.timeout or 3600
    local given, text, code = M.arguments(words, o)
    if not given then
        (code == 0 and io.stdout or io.stderr):write(text, "\n")
        return code
    end
    local result = runner.run_code_with_service(o.task, {
        template = given.template or o.template,
        service_port = o.service_port,
        timeout = given.timeout or o.timeout,
        record = given.record,
        env_vars = o.env_vars,
        allow_out = o.allow_out,
        tape = o.tape,
        port_timeout = o.port_timeout,
        announce = not given.once,
    })
    if result.exit_code ~= 0 then
        return result.exit_code
    end
    return given.once and fetch_once(result, o.paths or { "/" }) or 0
end

return M
