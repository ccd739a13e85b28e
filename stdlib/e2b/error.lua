-- The one error object of the standard library, and of the C modules (they
-- make theirs with the same metatable). Branch on `kind` (Error.is), never on
-- the text.

---@class e2b.Error
---@field kind string one of Error.KINDS
---@field message string one readable line, without secrets
---@field where? string "file:line" of the script that called the library
---@field op? string what was being done, for example "files.read"
---@field status? integer HTTP status of the answer
---@field errno? integer error number of the operating system
---@field code? string `error_code` of an E2B answer, or the Connect code
---@field retryable? boolean the same call may succeed later, nothing was done
---@field retry_after? integer seconds the server asks to wait before the call is repeated
---@field result? table command_exit: {stdout, stderr, exit_code, error}
---@field remedy? string what to do about it
---@field cause? any the error behind this one
---@field deadline? "command"|"request"|"sandbox"|"idle"|"task" timeout: which
---@field traceback? string
local Error = {}

-- Kind to the more general kind it also counts as (false: none). The tree is
-- that of the exceptions of the E2B Python SDK without their common root.
local KINDS = {
    sandbox = false,
    timeout = false,
    sandbox_not_running = "timeout",
    sandbox_unreachable = "timeout",
    guest_unresponsive = false,
    invalid_argument = false,
    dockerfile_syntax = "invalid_argument",
    not_enough_space = false,
    out_of_memory = "sandbox",
    not_found = false,
    file_not_found = "not_found",
    sandbox_not_found = "not_found",
    authentication = false,
    git_auth = "authentication",
    git_upstream = false,
    template = false,
    rate_limit = false,
    service_busy = false,
    command_exit = false,
    build = false,
    file_upload = "build",
    volume = false,
    volume_not_found = "not_found",
    volume_path_not_found = "not_found",
    secret = false,
    secret_not_found = "secret",
    cancelled = false,
    interrupted = false,
    cannot_wait = false,
    network = false,
    tls = false,
    protocol = false,
    unsupported = false,
    internal = false,
}

---The closed list of kinds: kind -> the more general kind, or false.
---@type table<string, string|false>
Error.KINDS = KINDS

-- host/bind/lutil.c makes the table when it raises first.
local CLASS = "e2b.Error"
local registry = debug.getregistry()
local meta = registry[CLASS]
if not meta then
    meta = { __name = CLASS }
    registry[CLASS] = meta
end

-- Chunk names of the standard library begin like this file's own.
local ours = debug.getinfo(1, "S").source:match("^(.*)e2b/error%.lua$") or "@stdlib/"

local function script_line()
    local level = 3
    while true do
        local info = debug.getinfo(level, "Sl")
        if not info then
            return nil
        end
        if info.currentline > 0 and info.source:sub(1, #ours) ~= ours then
            return info.short_src .. ":" .. info.currentline
        end
        level = level + 1
    end
end

function meta.__tostring(self)
    local message = tostring(self.message)
    return self.where and self.where .. ": " .. message or message
end

---Makes an error without raising it.
---@param kind string one of Error.KINDS; anything else is an error of kind internal
---@param message string
---@param fields? table further fields of the object
---@return e2b.Error
function Error.new(kind, message, fields)
    if KINDS[kind] == nil then
        message = ("no error kind %s (with the message: %s)"):format(
            tostring(kind), tostring(message))
        kind = "internal"
    end
    local e = { kind = kind, message = message }
    for k, v in pairs(fields or {}) do
        if e[k] == nil then
            e[k] = v
        end
    end
    return setmetatable(e, meta)
end

---Raises a new error, or the error object given as the only argument.
---@param kind string|e2b.Error
---@param message? string
---@param fields? table
function Error.raise(kind, message, fields)
    local e = kind
    if getmetatable(kind) ~= meta then
        e = Error.new(kind --[[@as string]], message --[[@as string]], fields)
    end
    e.where = e.where or script_line()
    error(e, 0)
end

---Whether a value is an error of ours, and of that kind or a more special one:
---Error.is(e, "timeout") also holds for sandbox_not_running.
---@param v any
---@param kind? string
---@return boolean
function Error.is(v, kind)
    if getmetatable(v) ~= meta then
        return false
    end
    if kind == nil then
        return true
    end
    local k = v.kind
    while k do
        if k == kind then
            return true
        end
        k = KINDS[k]
    end
    return false
end

---For calls that answer `nil, err`: hands the results on or raises err. nil
---without an error (the end of a stream) is a result.
---@generic T
---@param v T
---@param err? any
---@return T ...
function Error.check(v, err, ...)
    if v or err == nil then
        return v, err, ...
    end
    if getmetatable(err) ~= meta then
        err = Error.new("internal", tostring(err), { cause = err })
    end
    err.where = err.where or script_line()
    error(err, 0)
end

return Error
