-- What the verbs that name a sandbox share.
local Error = require "e2b.error"
local Sandbox = require "e2b.sandbox"

local M = {}

---Calls fn; tells where ids come from when there is no such sandbox.
---@param fn function
---@param ... any
---@return any ...
function M.known(fn, ...)
    local results = table.pack(pcall(fn, ...))
    if not results[1] then
        local err = results[2]
        if Error.is(err, "sandbox_not_found") and not err.remedy then
            err.remedy = "e2blua list shows the sandboxes there are"
        end
        error(err, 0)
    end
    return table.unpack(results, 2, results.n)
end

---Connects to a running sandbox. It then lives at least 300 s more, as the
---protocol has it.
---@param id string
---@return e2b.Sandbox
function M.connect(id)
    return M.known(Sandbox.connect, id)
end

---NAME=VALUE words as a table. Raises invalid_argument.
---@param words string[]
---@param what string
---@return table<string, string>
function M.pairs(words, what)
    local all = {}
    for _, word in ipairs(words or {}) do
        local name, value = word:match("^([^=]+)=(.*)$")
        if not name then
            Error.raise("invalid_argument", ("%s must be NAME=VALUE, not %q"):format(what, word))
        end
        all[name] = value
    end
    return all
end

---All sandboxes of the backend.
---@param opts? table of Sandbox.list
---@return e2b.SandboxInfo[]
function M.all(opts)
    local pages, all = Sandbox.list(opts), {}
    while pages.has_next do
        local items = pages:next_items()
        table.move(items, 1, #items, #all + 1, all)
    end
    return all
end

return M
