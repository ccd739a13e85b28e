-- Quoting for /bin/sh, as Python's shlex.quote does it.
local M = {}

---One word of a shell command.
---@param text string
---@return string
function M.quote(text)
    if text == "" then
        return "''"
    elseif not text:find("[^%w_@%%+=:,./-]") then
        return text
    end
    return "'" .. text:gsub("'", "'\"'\"'") .. "'"
end

---Several words, or one, with a blank between them.
---@param words string|string[]
---@return string
function M.quote_all(words)
    if type(words) == "string" then
        return M.quote(words)
    end
    local quoted = {}
    for i, word in ipairs(words) do
        quoted[i] = M.quote(word)
    end
    return table.concat(quoted, " ")
end

return M
