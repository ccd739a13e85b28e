-- Whether the host has what a new sandbox takes: disk and descriptors. What runs
-- goes on without; what would begin is refused, in words that say what to do.
local Error = require "e2b.error"
local engine = require "e2b_engine"

local M = {}

-- A sandbox takes up to 30 descriptors, connections that come and go the rest.
local DESCRIPTORS <const> = 64
local EMFILE <const>, ENFILE <const> = 24, 23
local MORE_DESCRIPTORS <const> = "end sandboxes, or raise the limit (ulimit -n) and start the" ..
    " engine anew (e2blua engine stop)"

---Raises when a sandbox cannot begin.
---@param E table the engine
---@param dir string where its writable layer will be
function M.check(E, dir)
    for _, folder in ipairs { E.paths.home, dir } do
        Error.check(engine.hostfs_room(folder))
    end
    local room, open, limit = engine.fd_room(DESCRIPTORS)
    if not room then
        Error.raise("sandbox", ("the engine has %d of %d descriptors open, and a new sandbox" ..
            " needs up to %d: %s"):format(open, limit, DESCRIPTORS, MORE_DESCRIPTORS))
    end
end

---The text of an error with what to do, where the host is at fault.
---@param err any
---@return string
function M.explain(err)
    if not Error.is(err) then
        return tostring(err)
    elseif Error.is(err, "not_enough_space") and not err.message:find("engine gc", 1, true) then
        return err.message .. "; make room there, or collect layers (e2blua engine gc)"
    elseif err.errno == EMFILE or err.errno == ENFILE then
        return err.message .. "; " .. MORE_DESCRIPTORS
    end
    return err.message
end

return M
