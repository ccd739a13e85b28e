-- The project's .env file. Its values live here, not in the environment of the
-- process, and the environment wins over them.
local fs = require "e2b_fs"
local Error = require "e2b.error"
local options = require "e2b.options"

local M = {}

local MAX_SIZE <const> = 1 << 20

-- NAME -> value, of all files loaded; loaded: the automatic load is through.
local state = { values = {}, loaded = false }

-- ---- grammar -----------------------------------------------------------------

local ESCAPES = { n = "\n", r = "\r", t = "\t" }

local function make_grammar()
    local lpeg = require "lpeg"
    local P, R, S, C, Cc, Cp, Cs, Ct = lpeg.P, lpeg.R, lpeg.S, lpeg.C, lpeg.Cc, lpeg.Cp,
        lpeg.Cs, lpeg.Ct
    local eol = P "\r\n" + P "\n" + P "\r"
    local blank = S " \t"
    local rest = (1 - S "\r\n") ^ 0
    local name = C((R("az", "AZ") + "_") * (R("az", "AZ", "09") + S "_.-") ^ 0)
    local escape = P "\\" * C(1) / function(c)
        return ESCAPES[c] or c
    end
    local newline = eol / "\n"
    local double = P '"' * Cs((escape + newline + (1 - P '"')) ^ 0) * '"'
    local single = P "'" * Cs((P "\\'" / "'" + newline + (1 - P "'")) ^ 0) * "'"
    -- An unquoted value ends before " #" and loses the blanks at its end.
    local stop = blank ^ 0 * (S "\r\n" + -1) + blank ^ 1 * "#"
    local plain = -S "\"'" * C((1 - S "\r\n" - stop) ^ 0)
    local empty = #(blank ^ 0 * (P "#" + S "\r\n" + -1)) * Cc ""
    local comment = P "#" * rest
    local tail = blank ^ 0 * comment ^ -1 * (eol + -1)
    local assignment = Ct((P "export" * blank ^ 1) ^ -1 * name * blank ^ 0 * "=" * blank ^ 0 *
        (empty + double + single + plain)) * tail
    local line = blank ^ 0 * (assignment + comment ^ -1 * eol + comment * -1)
    return Ct(P "\239\187\191" ^ -1 * line ^ 0) * blank ^ 0 * Cp()
end

local grammar

local function line_of(text, position)
    local before = text:sub(1, position - 1):gsub("\r\n", "\n"):gsub("\r", "\n")
    local _, breaks = before:gsub("\n", "")
    return breaks + 1
end

-- The line itself may hold a secret and is not in the error.
local function bad(file, text, position, what)
    Error.raise("invalid_argument", ("%s:%d: %s"):format(file, line_of(text, position), what),
        { op = "load_dotenv", remedy = 'a line is NAME=value, NAME="value" or # comment' })
end

---Parses the text of a .env file.
---@param text string
---@param file? string its name, for errors
---@return table<string, string> values
---@nodiscard
function M.parse(text, file)
    options.value("dotenv.parse", "text", text, "string")
    file = file or ".env"
    local control = text:find("[%z\1-\8\11\12\14-\31\127]")
    local _, broken = utf8.len(text)
    if control or broken then
        bad(file, text, math.min(control or broken, broken or control),
            "binary data where text belongs")
    end
    grammar = grammar or make_grammar()
    local pairs_found, position = grammar:match(text)
    if position <= #text then
        local at = text:match("^[^\r\n]*", position)
        local open = at:match("=%s*([\"'])")
        bad(file, text, position, open and "the quoted value does not end, or text follows it"
            or "not an assignment")
    end
    local values = {}
    for _, pair in ipairs(pairs_found) do
        values[pair[1]] = pair[2]
    end
    return values
end

-- ---- where it is ---------------------------------------------------------------

local function exists(path)
    return fs.stat(path) ~= nil
end

-- The same rule as the look-up of scripts, in host/find.c.
local function project_above(dir)
    local home = os.getenv("HOME")
    while dir and dir ~= "" and dir ~= "/" do
        if exists(dir .. "/scripts") or exists(dir .. "/templates") then
            return dir
        end
        if dir == home or exists(dir .. "/.git") then
            return nil
        end
        dir = dir:match("^(.*)/[^/]*$")
    end
    return nil
end

---The folder of the project that the script, or else the working directory, is
---in: the nearest above with scripts/ or templates/, not above a folder with
---.git or $HOME.
---@return string|nil
function M.project()
    local script = arg and arg[0]
    local path = script and script ~= "-e" and fs.realpath(script)
    local dir = path and path:match("^(.*)/[^/]*$")
    local found = dir and project_above(dir)
    if found then
        return found
    end
    local cwd = fs.cwd()
    return cwd and project_above(cwd)
end

-- ---- loading -------------------------------------------------------------------

local function load(path)
    local text = Error.check(fs.read_file(path, MAX_SIZE))
    for name, value in pairs(M.parse(text, path)) do
        state.values[name] = value
    end
end

local function load_project()
    if state.loaded then
        return
    end
    local dir = M.project()
    local path = dir and dir .. "/.env"
    if path and exists(path) then
        load(path)
    end
    state.loaded = true
end

---Loads a .env file; without a path that of the project, if it has one. What is
---in the environment already wins over it; a file loaded later wins over an
---earlier one. A bad line is invalid_argument and names the line.
---@param path? string
---@return string|nil file the file that was loaded
function M.load(path)
    load_project()
    if path == nil then
        local dir = M.project()
        path = dir and dir .. "/.env"
        if not path or not exists(path) then
            return nil
        end
    end
    options.value("load_dotenv", "path", path, "text")
    load(path)
    return path
end

---A variable of the environment, or else of the .env files.
---@param name string
---@param default? any
---@return any
function M.getenv(name, default)
    options.value("getenv", "name", name, "text")
    local value = os.getenv(name)
    if value ~= nil then
        return value
    end
    load_project()
    value = state.values[name]
    if value ~= nil then
        return value
    end
    return default
end

---A variable, and where it comes from. An empty one counts as not set.
---@param name string
---@return string|nil value
---@return "environment"|".env"|nil source
function M.lookup(name)
    local value = M.getenv(name)
    if value == nil or value == "" then
        return nil
    end
    return value, os.getenv(name) ~= nil and "environment" or ".env"
end

-- Pairs warned of already.
local warned = {}

---Warns, once, when a project's .env says where requests go while the key that
---goes with them is the user's own: a cloned project could steal it.
---@param url_names string[] variables that name a server
---@param key_name string
function M.warn_of_foreign_url(url_names, key_name)
    local _, key_source = M.lookup(key_name)
    for _, name in ipairs(url_names) do
        local _, source = M.lookup(name)
        local both = name .. " " .. key_name
        if source == ".env" and key_source == "environment" and not warned[both] then
            warned[both] = true
            io.stderr:write(("e2blua: warning: %s comes from the project's .env, %s from your" ..
                " environment: the project decides where your key is sent\n"):format(
                name, key_name))
        end
    end
end

return M
