-- What the verbs print: tables, JSON, bytes.
local Error = require "e2b.error"
local json = require "e2b_json"

local M = {}

local EPIPE <const> = 32

---Writes bytes at once. A reader that has gone ends the program, as it would
---end any filter.
---@param file file*
---@param bytes string
function M.write(file, bytes)
    local ok, why, errno = file:write(bytes)
    if ok then
        ok, why, errno = file:flush()
    end
    if ok then
        return
    elseif errno == EPIPE then
        os.exit(1)
    end
    Error.raise("internal", "the output cannot be written: " .. tostring(why))
end

---Columns as wide as their longest value; the last one has no end.
---@param head string[]
---@param rows string[][]
function M.columns(head, rows)
    local width = {}
    local all = table.move(rows, 1, #rows, 2, { head })
    for _, row in ipairs(all) do
        for i, text in ipairs(row) do
            width[i] = math.max(width[i] or 0, utf8.len(text) or #text)
        end
    end
    for _, row in ipairs(all) do
        local parts = {}
        for i, text in ipairs(row) do
            local pad = width[i] - (utf8.len(text) or #text)
            parts[i] = i < #row and text .. (" "):rep(pad) or text
        end
        M.write(io.stdout, table.concat(parts, "  ") .. "\n")
    end
end

---@param value any
function M.json(value)
    M.write(io.stdout, json.encode(value, { pretty = true }) .. "\n")
end

---@param seconds integer since 1970
---@return string
function M.clock(seconds)
    return os.date("!%Y-%m-%d %H:%M:%S", seconds) --[[@as string]]
end

---A line on the standard error.
---@param text string
function M.complain(text)
    io.stderr:write("e2blua: ", text, "\n")
end

return M
