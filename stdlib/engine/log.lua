-- The engine's log: lines on its standard error, which is engine.log. Callers
-- keep secrets out.
local process = require "e2b_process"

local M = { verbose = os.getenv("E2BLUA_DEBUG") == "1" }

local function line(level, text, ...)
    if select("#", ...) > 0 then
        text = text:format(...)
    end
    local now = process.clock()
    io.stderr:write(os.date("!%Y-%m-%dT%H:%M:%S", now // 1000000),
        (".%03dZ "):format(now // 1000 % 1000), level, " ", (text:gsub("\n", "\\n")), "\n")
end

---@param text string
---@param ... any for string.format
function M.info(text, ...)
    line("info", text, ...)
end

---@param text string
---@param ... any
function M.warn(text, ...)
    line("warn", text, ...)
end

---@param text string
---@param ... any
function M.error(text, ...)
    line("error", text, ...)
end

---@param text string
---@param ... any
function M.debug(text, ...)
    if M.verbose then
        line("debug", text, ...)
    end
end

return M
