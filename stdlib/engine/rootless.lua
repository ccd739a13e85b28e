-- The user namespace that an ordinary user's engine lives in. One that died has
-- left its own to its sandboxes: only from there they can be reached.
local Error = require "e2b.error"
local engine = require "e2b_engine"
local fs = require "e2b_fs"
local process = require "e2b_process"

local M = {}

-- Not by fs: that has threads.
local function first_line(path)
    local f <close> = assert(io.open(path))
    return f:read("l")
end

-- Processes that the records of this boot name. A state that cannot be read is
-- not complained of here: the engine is going to open it.
local function recorded(p)
    local db = fs.stat(p.db) and engine.store(p.db)
    if not db then
        return {}
    end
    local rows = db:query("SELECT pid, start_time FROM sandboxes WHERE boot_id = ?1 AND pid > 0",
        first_line("/proc/sys/kernel/random/boot_id"))
    db:close()
    return rows or {}
end

---Makes this process root of a user namespace, for an ordinary user: that of
---living sandboxes of this home, else a new one. The process may have one thread
---only.
---@param p engine.Paths
---@return "root"|"range"|"one" grade the ids that sandboxes will have
---@return string reason why it is "one", or ""
function M.enter(p)
    if process.uid() == 0 then
        return engine.rootless_grade(), ""
    end
    for _, row in ipairs(recorded(p)) do
        if engine.rootless_join(row.pid, row.start_time) then
            return engine.rootless_grade(), "as the sandboxes that live already"
        end
    end
    local reason = Error.check(engine.rootless_enter())
    return engine.rootless_grade(), reason
end

---What a grade takes from sandboxes, for their notes; nil: nothing.
---@param grade "root"|"range"|"one"
---@param reason string
---@return string|nil
function M.note(grade, reason)
    if grade ~= "one" then
        return nil
    end
    return ("one user id only (%s): every command runs as root of the sandbox, also those" ..
        " of `user`, every file is root's, and sudo changes nothing; see e2blua doctor")
        :format(reason)
end

return M
