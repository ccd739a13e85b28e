-- Running a file of this machine inside a sandbox, by its language.
local fs = require "e2b_fs"
local Error = require "e2b.error"
local options = require "e2b.options"

local M = {}

---Exit code of a shell that did not find the program.
M.NOT_FOUND = 127

-- programs: the first one there is runs the file.
local LANGUAGES = {
    python = { programs = { "python3", "python" }, extension = "py", package = "python3" },
    javascript = { programs = { "node", "nodejs" }, extension = "js", package = "nodejs" },
    bash = { programs = { "bash" }, extension = "sh", package = "bash" },
    lua = { programs = { "lua", "lua5.4", "lua5.3", "luajit" }, extension = "lua",
        package = "lua5.4" },
}

local NAMES <const> = { "bash", "javascript", "lua", "python" }

---The language of a file, by the end of its name, or nil.
---@param file string
---@return string|nil
function M.language_of(file)
    local extension = file:match("%.(%w+)$")
    for name, language in pairs(LANGUAGES) do
        if language.extension == extension then
            return name
        end
    end
    return nil
end

local function quote(word)
    return "'" .. word:gsub("'", "'\\''") .. "'"
end

-- A shell expression that gives the path of the first program there is.
local function probe(language)
    local parts = {}
    for i, program in ipairs(language.programs) do
        parts[i] = "command -v " .. program
    end
    return table.concat(parts, " || ")
end

---The command line that runs a file of the sandbox.
---@param name string of the language
---@param path string
---@param args? string[]
---@return string
function M.command(name, path, args)
    local language = LANGUAGES[name]
    local words = { ('exec "$(%s || echo %s)"'):format(probe(language), language.programs[1]),
        quote(path) }
    for _, arg in ipairs(args or {}) do
        words[#words + 1] = quote(arg)
    end
    return table.concat(words, " ")
end

---Raises unsupported when the sandbox has no program for the language.
---@param op string the call, for the text
---@param sandbox e2b.Sandbox
---@param name string of the language
---@param o {user: string|nil, envs: table|nil, request_timeout: number|nil}
function M.check_program(op, sandbox, name, o)
    local language = LANGUAGES[name]
    local ok, err = pcall(sandbox.commands.run, sandbox.commands, probe(language),
        { user = o.user, envs = o.envs, request_timeout = o.request_timeout })
    if ok then
        return
    elseif not Error.is(err, "command_exit") then
        error(err, 0)
    end
    Error.raise("unsupported", ("%s: this sandbox has no %s (looked for %s)"):format(op, name,
        table.concat(language.programs, ", ")), { op = op, cause = err,
        remedy = ("build a template that has it: Template():from_base_image():apt_install(%q)")
            :format(language.package) })
end

local function workdir(sandbox, o)
    local result = sandbox.commands:run("pwd",
        { cwd = o.cwd, user = o.user, request_timeout = o.request_timeout })
    return (result.stdout:gsub("\n$", ""))
end

local function upload(op, sandbox, file, o)
    local st, why = fs.stat(file)
    if not st then
        Error.raise("file_not_found", ("%s: there is no file %s on this machine: %s"):format(op,
            file, why.message), { op = op })
    elseif st.type ~= "file" then
        Error.raise("invalid_argument", ("%s: %s is a %s, not a file"):format(op, file, st.type),
            { op = op })
    end
    local path = workdir(sandbox, o):gsub("/$", "") .. "/" .. file:match("[^/]+$")
    local f <close> = assert(io.open(file, "rb"))
    sandbox.files:write(path, f, { user = o.user, request_timeout = o.request_timeout })
    return path
end

local SPEC = options.spec(options.REQUEST, {
    args = "table",
    background = "boolean",
    cwd = "text",
    envs = "map",
    user = "text",
    stdin = "boolean",
    on_stdout = "callable",
    on_stderr = "callable",
    timeout = "seconds",
})

---Sandbox:run_code.
---@param sandbox e2b.Sandbox
---@param language string
---@param file string
---@param opts? table
---@return e2b.CommandResult|e2b.CommandHandle
function M.run(sandbox, language, file, opts, ...)
    local op = "Sandbox.run_code"
    local o = options.arguments(op, { { "language", NAMES }, { "file", "text" } }, SPEC, language,
        file, opts, ...)
    for i, arg in ipairs(o.args or {}) do
        options.value(op, ("argument %d of the script"):format(i), arg, "text")
    end
    local path = upload(op, sandbox, o.file, o)
    if o.background then
        M.check_program(op, sandbox, o.language, o)
    end
    local how = { background = o.background, cwd = o.cwd, envs = o.envs, user = o.user,
        stdin = o.stdin, on_stdout = o.on_stdout, on_stderr = o.on_stderr, timeout = o.timeout,
        request_timeout = o.request_timeout }
    local ok, result = pcall(sandbox.commands.run, sandbox.commands,
        M.command(o.language, path, o.args), how)
    if ok then
        return result
    end
    if Error.is(result, "command_exit") and result.result.exit_code == M.NOT_FOUND then
        M.check_program(op, sandbox, o.language, o)
    end
    error(result, 0)
end

return M
