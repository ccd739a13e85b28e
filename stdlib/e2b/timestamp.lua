-- RFC 3339 timestamps as seconds since 1970.
local M = {}

-- Days since 1970-01-01 of a date of the Gregorian calendar.
local function days(year, month, day)
    if month <= 2 then
        year = year - 1
    end
    local era = year // 400
    local of_era = year - era * 400
    local of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

---Seconds since 1970 (fractions dropped, so that os.date takes them), or nil
---when the text is no timestamp.
---@param text any
---@return integer|nil
function M.parse(text)
    if type(text) ~= "string" then
        return nil
    end
    local y, mo, d, h, mi, s, zone =
        text:match("^(%d%d%d%d)-(%d%d)-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)%.?%d*(.*)$")
    if not y then
        return nil
    end
    local sign, zh, zm = zone:match("^([+-])(%d%d):(%d%d)$")
    if not sign and zone ~= "Z" and zone ~= "z" then
        return nil
    end
    local offset = sign and (zh * 3600 + zm * 60) * (sign == "+" and 1 or -1) or 0
    return math.tointeger(days(y // 1, mo // 1, d // 1) * 86400 + h * 3600 + mi * 60 + s - offset)
end

---The timestamp of that second, in UTC.
---@param seconds integer
---@return string
function M.format(seconds)
    return os.date("!%Y-%m-%dT%H:%M:%SZ", seconds) --[[@as string]]
end

return M
