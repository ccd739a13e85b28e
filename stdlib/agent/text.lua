-- Small helpers for texts that agents and people read.
local options = require "e2b.options"

local M = {}

---"; did you mean 'x'?" with the name nearest to word, or "".
---@param word string
---@param names string[]
---@return string
function M.nearest(word, names)
    local set = {}
    for _, name in ipairs(names) do
        set[name] = true
    end
    local found = options.nearest(word, set)
    return found and ("; did you mean '%s'?"):format(found) or ""
end

---Cuts a text to at most max bytes, keeping its beginning and its end, and says
---in the text what is missing. Does not cut inside a UTF-8 character.
---@param s string
---@param max integer
---@return string
function M.shorten(s, max)
    if #s <= max then
        return s
    end
    local head, tail = max * 2 // 3, #s - max // 3 + 1
    while head > 0 and (s:byte(head + 1) or 0) & 0xC0 == 0x80 do
        head = head - 1
    end
    while tail <= #s and s:byte(tail) & 0xC0 == 0x80 do
        tail = tail + 1
    end
    return ("%s\n\n... [%d bytes of %d left out] ...\n\n%s"):format(s:sub(1, head),
        tail - head - 1, #s, s:sub(tail))
end

---The first line of a text, at most max characters.
---@param s string
---@param max integer
---@return string
function M.brief(s, max)
    local line = s:match("^%s*([^\r\n]*)")
    if #line < #s:gsub("%s+$", "") and #line <= max - 3 then
        return line .. "..."
    end
    if #line > max then
        local cut = max - 3
        while cut > 0 and (line:byte(cut + 1) or 0) & 0xC0 == 0x80 do
            cut = cut - 1
        end
        return line:sub(1, cut) .. "..."
    end
    return line
end

---Replaces plain text by plain text, everywhere.
---@param s string
---@param from string not empty
---@param to string
---@return string result
---@return integer count
function M.replace(s, from, to)
    local out, at, count = {}, 1, 0
    while true do
        local i, j = s:find(from, at, true)
        if not i then
            break
        end
        out[#out + 1] = s:sub(at, i - 1)
        out[#out + 1] = to
        at, count = j + 1, count + 1
    end
    out[#out + 1] = s:sub(at)
    return table.concat(out), count
end

---Whether a list has a value.
---@param list any[]
---@param value any
---@return boolean
function M.contains(list, value)
    for _, v in ipairs(list) do
        if v == value then
            return true
        end
    end
    return false
end

---A word for the shell, quoted.
---@param s string
---@return string
function M.quote(s)
    if s:find("^[%w_@%%+=:,./-]+$") then
        return s
    end
    return "'" .. s:gsub("'", "'\\''") .. "'"
end

---Bytes for people: "312 B", "4.2 KB", "1.0 MB".
---@param n integer
---@return string
function M.size(n)
    if n < 1024 then
        return n .. " B"
    elseif n < 1024 * 1024 then
        return ("%.1f KB"):format(n / 1024)
    end
    return ("%.1f MB"):format(n / 1024 / 1024)
end

return M
