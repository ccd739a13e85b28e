-- When a sandbox ends, and what becomes of one whose engine has died: decisions
-- by given facts, nothing is asked or done here. The end counts by the clock
-- since the machine's boot, which nobody sets; the time of day is for show.
local M = {}

local SHOWN_OFF <const> = 1000000 -- a shown end may be wrong by that much

---@class engine.Clocks
---@field wall integer microseconds since 1970; may jump
---@field boot integer microseconds since the machine's boot, its sleep included

---Sets a record's end.
---@param record {end_at: integer, end_boot: integer}
---@param clocks engine.Clocks
---@param seconds number from now
function M.set_end(record, clocks, seconds)
    local us = math.floor(seconds * 1000000)
    record.end_at, record.end_boot = clocks.wall + us, clocks.boot + us
end

---Seconds until a record's end, not below 0.
---@param record {end_boot: integer}
---@param clocks engine.Clocks
---@return number
function M.left(record, clocks)
    return math.max(0, record.end_boot - clocks.boot) / 1e6
end

---The time of day at which a record ends: what was promised, unless the clock
---has been set since.
---@param record {end_at: integer, end_boot: integer}
---@param clocks engine.Clocks
---@return integer microseconds since 1970
function M.shown_end(record, clocks)
    local at = clocks.wall + record.end_boot - clocks.boot
    return math.abs(at - record.end_at) > SHOWN_OFF and at or record.end_at
end

---@class engine.Row
---@field kind "sandbox"|"step"
---@field state "starting"|"running"|"killing"
---@field boot_id string
---@field pid integer|nil
---@field end_boot integer|nil

---What the next engine does with a row that it finds: "adopt" it; "end" what is
---there of it; "forget" it, when nothing of it can be there.
---@param row engine.Row
---@param boot_id string of this boot
---@param clocks engine.Clocks
---@return "adopt"|"end"|"forget" fate
---@return string why
function M.fate(row, boot_id, clocks)
    if row.boot_id ~= boot_id then
        return "forget", "the machine has been booted since"
    elseif row.kind ~= "sandbox" then
        return "end", "its build has no engine any more"
    elseif row.state == "killing" then
        return "end", "it was being killed"
    elseif row.state ~= "running" or not row.pid or not row.end_boot then
        return "end", "it was not finished"
    elseif row.end_boot <= clocks.boot then
        return "end", "it has reached its end"
    end
    return "adopt", "it runs"
end

return M
