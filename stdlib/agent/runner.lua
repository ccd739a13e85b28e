-- Runs a task in a new sandbox: agent.run_code_in_sandbox and
-- agent.run_code_with_service.
local Bound = require "agent.bound"
local Error = require "e2b.error"
local check = require "e2b.options"
local find = require "agent.find"
local process = require "e2b_process"
local progress = require "agent.progress"
local run_code = require "e2b.run_code"
local service = require "agent.service"
local setup = require "agent.setup"
local task = require "e2b_task"

local M = {}

local TIMEOUT = 3600
local SPEC = { template = "text", timeout = "seconds", env_vars = "map", allow_out = "table",
    workdir = "text", tape = "text", record = "text", progress = "boolean" }
local SERVICE = { service_port = "count", port_timeout = "seconds", announce = "boolean" }

-- How much of what a task said on standard error goes into its error.
local TAIL = 4000

-- ---- the task ----------------------------------------------------------------

local function load_task(name)
    local source, where = find.read(name, "scripts")
    if not source then
        Error.raise("file_not_found", ("there is no task %s; looked for %s"):format(name, where))
    end
    local language = run_code.language_of(name)
    if not language then
        Error.raise("invalid_argument", ("%s: a task is a .lua file, which runs here, or a .py, "
            .. ".js or .sh file, which runs in the sandbox"):format(name))
    elseif language ~= "lua" then
        return { source = source, language = language, name = name:match("[^/]*$") }
    end
    local env = setmetatable({}, { __index = _G })
    local chunk, wrong = load(source, "@" .. where, "t", env)
    if not chunk then
        Error.raise("invalid_argument", wrong)
    end
    return { chunk = chunk, env = env }
end

local function exit_code(value)
    if value == nil or value == true then
        return 0
    elseif value == false then
        return 1
    elseif math.type(value) == "integer" then
        return value
    end
    Error.raise("invalid_argument", ("the task returned a %s; it may return an exit code, an "
        .. "integer"):format(type(value)))
end

local function must_stop(err)
    return Error.is(err, "cancelled") or Error.is(err, "interrupted")
end

-- A Lua task: runs here, acts in the sandbox.
local function run_chunk(run, code)
    local out = {}
    code.env.print = function(...)
        local words = table.pack(...)
        for i = 1, words.n do
            words[i] = tostring(words[i])
        end
        local line = table.concat(words, "\t")
        out[#out + 1] = line .. "\n"
        run.progress:line(line)
    end
    local bound <close> = Bound.new(run)
    local ok, value = pcall(function()
        return exit_code(code.chunk { sandbox = run.sandbox, workdir = run.workdir,
            env = run.env_vars or {}, agent = bound:face() })
    end)
    if not ok and must_stop(value) then
        error(value, 0)
    end
    return { exit_code = ok and value or 1, stdout = table.concat(out),
        stderr = ok and "" or tostring(value) .. "\n", error = not ok and value or nil }
end

-- What a task that failed inside says of it: the end of its standard error has
-- the traceback.
local function failure(code, result)
    local words = ("%s ended with exit code %d"):format(code.name, result.exit_code)
    local said = result.stderr:gsub("%s+$", "")
    if #said > TAIL then
        said = "..." .. said:sub(-TAIL)
    end
    return Error.new("command_exit", said ~= "" and words .. ":\n" .. said or words,
        { result = result })
end

-- Any other task: uploaded, and run in the working directory.
local function run_inside(run, code)
    local path = "/tmp/task/" .. code.name
    run.sandbox.files:write(path, code.source)
    local function show(bytes)
        run.progress:line((bytes:gsub("\n$", "")))
    end
    local commands = run.sandbox.commands
    local ok, result = pcall(commands.run, commands, run_code.command(code.language, path),
        { cwd = run.workdir, envs = run.env_vars, timeout = 0, on_stdout = show,
            on_stderr = show })
    if ok then
        return { exit_code = result.exit_code, stdout = result.stdout, stderr = result.stderr }
    elseif not Error.is(result, "command_exit") or not result.result then
        error(result, 0)
    end
    local r = result.result
    if r.exit_code == run_code.NOT_FOUND then
        run_code.check_program(code.name, run.sandbox, code.language, {})
    end
    return { exit_code = r.exit_code, stdout = r.stdout, stderr = r.stderr,
        error = failure(code, r) }
end

-- ---- what changed ------------------------------------------------------------

local function snapshot(run)
    local result = run.sandbox.commands:run(
        "find . -type f -printf '%P\\t%s %C@ %i\\0' 2>/dev/null || true", { cwd = run.workdir })
    local files = {}
    for path, state in result.stdout:gmatch("([^\0]-)\t([^\t\0]*)\0") do
        files[path] = { state = state, size = math.tointeger(tonumber(state:match("^%d+"))) }
    end
    return files
end

local function by_path(a, b)
    return a.path < b.path
end

-- result.files, added, changed and removed.
local function compare(result, before, after)
    local added, changed, removed, files = {}, {}, {}, {}
    for path, now in pairs(after) do
        local was = before[path]
        if not was or was.state ~= now.state then
            table.insert(was and changed or added, { path = path, size = now.size })
            files[#files + 1] = path
        end
    end
    for path, was in pairs(before) do
        if not after[path] then
            removed[#removed + 1] = { path = path, size = was.size }
        end
    end
    for _, list in ipairs { added, changed, removed } do
        table.sort(list, by_path)
    end
    table.sort(files)
    result.files, result.added, result.changed, result.removed = files, added, changed, removed
end

-- ---- running -----------------------------------------------------------------

-- A task that fails may have been refused a host: says which.
local function tell_refused(run, failed)
    local ok, info = pcall(run.sandbox.get_info, run.sandbox)
    for _, note in ipairs(ok and info.notes or {}) do
        if note:find("refused by policy", 1, true) then
            process.log("sandbox", note)
            if failed then
                run.progress:line(note)
            end
        end
    end
end

local function run_task(run, code)
    local before = snapshot(run)
    local result
    if code.chunk then
        result = run_chunk(run, code)
    else
        result = run_inside(run, code)
    end
    compare(result, before, snapshot(run))
    tell_refused(run, result.exit_code ~= 0)
    if result.error then
        -- What a task in the sandbox said has been shown while it ran.
        local words = tostring(result.error)
        words = code.chunk and words or words:match("^[^\n]*"):gsub(":$", "")
        run.progress:line("the task failed: " .. words)
        if Error.is(result.error) and result.error.remedy then
            run.progress:line("  " .. result.error.remedy)
        end
    end
    return result
end

local function prepare(op, code_file, given, spec)
    check.value(op, "code_file", code_file, "text")
    local o = check.check(op, given, spec)
    local code = load_task(code_file)
    for _, name in ipairs { "record", "tape" } do
        if o[name] and not code.chunk then
            Error.raise("invalid_argument", ("%s: %s goes with a Lua task, whose agent runs here; "
                .. "%s runs in the sandbox"):format(op, name, code.name), { op = op })
        end
    end
    local run = { code_file = code_file, tape = o.tape, record = o.record, env_vars = o.env_vars,
        progress = progress.new { silent = o.progress == false } }
    o.timeout = o.timeout or TIMEOUT
    return o, run, code
end

---Runs a task in a new sandbox, which ends with it.
---@param code_file string a Lua task (a chunk called with {sandbox, workdir, env, agent}; it runs
---here and acts in the sandbox), or a .py, .js or .sh file that runs inside. Looked for as given,
---in scripts/ of the project, among the carried ones
---@param opts? table template (name, default: .template_id of the project, else "base"), timeout
---(seconds the sandbox may live, 3600), env_vars, allow_out (hosts the sandbox may reach; none),
---workdir (default: the sandbox's), tape (file; default: the one beside the task, when there is no
---key), record (file that gets a tape of the run), progress (false: shows nothing)
---@return table result exit_code, stdout, stderr, sandbox_id; files (paths of those added or
---changed, relative to workdir); added, changed, removed (arrays of {path, size}; size of a removed
---one: the last); error (of a task that failed; of one in the sandbox with the end of its stderr)
---Raises file_not_found, invalid_argument for a task that does not load, unsupported when the
---sandbox has no program for the task's language; what the engine did.
function M.run_code_in_sandbox(code_file, opts)
    local o, run, code = prepare("agent.run_code_in_sandbox", code_file, opts, SPEC)
    local sandbox <close> = setup.sandbox(run, o)
    local result = run_task(run, code)
    result.sandbox_id = sandbox.sandbox_id
    return result
end

---Runs a task in a new sandbox and leaves the sandbox and what it serves for `timeout` seconds.
---When the task fails, or its port does not open, the sandbox is ended.
---@param code_file string as of run_code_in_sandbox
---@param opts table as of run_code_in_sandbox, and service_port (required), port_timeout (seconds
---to wait for the port, 30), announce (false: does not print how to extend and end it)
---@return table result as of run_code_in_sandbox, and service_url (nil when exit_code is not 0)
---Raises timeout when the port does not open: says what was listening instead.
function M.run_code_with_service(code_file, opts)
    local op = "agent.run_code_with_service"
    local o, run, code = prepare(op, code_file, opts, check.spec(SPEC, SERVICE))
    check.value(op, "service_port", o.service_port, "count")
    local sandbox = setup.sandbox(run, o)
    local guard <close> = setmetatable({ armed = true }, { __close = function(self)
        if self.armed then
            pcall(task.shield, sandbox.kill, sandbox)
        end
    end })
    local result = run_task(run, code)
    result.sandbox_id = sandbox.sandbox_id
    if result.exit_code ~= 0 then
        return result
    end
    service.await_port(run, o.service_port, o.port_timeout)
    result.service_url = sandbox:get_url(o.service_port)
    if o.announce ~= false then
        service.announce(run, result.service_url)
    end
    guard.armed = false
    setup.release(sandbox)
    return result
end

return M
