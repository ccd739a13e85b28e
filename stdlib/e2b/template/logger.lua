-- What a build says: entries for on_build_logs, and the logger that prints them.
local task = require "e2b_task"
local options = require "e2b.options"
local timestamp = require "e2b.timestamp"

local M = {}

local LEVELS = { debug = 0, info = 1, warn = 2, error = 3 }

---@class e2b.LogEntry
---@field timestamp integer seconds since 1970
---@field level "debug"|"info"|"warn"|"error"
---@field message string without escape sequences
---@field step? string "base", "1" to "N", "finalize"; of the server's entries
---@field mark? "start"|"end" the two entries around everything

-- Colours and cursor movements.
local function plain(text)
    return (text:gsub("\27%[[0-?]*[ -/]*[@-~]", ""):gsub("\27%][^\7\27]*\7?", ""))
end

---An entry of our own.
---@param message string
---@param level? string default info
---@param mark? "start"|"end"
---@return e2b.LogEntry
function M.entry(message, level, mark)
    return { timestamp = os.time(), level = level or "info", message = message, mark = mark }
end

---An entry as the server sent it.
---@param doc table
---@return e2b.LogEntry
function M.of_server(doc)
    return {
        timestamp = timestamp.parse(doc.timestamp) or os.time(),
        level = LEVELS[doc.level] and doc.level or "info",
        message = plain(type(doc.message) == "string" and doc.message or ""),
        step = type(doc.step) == "string" and doc.step or nil,
    }
end

---For on_build_logs: prints a line for each entry, with the seconds since the
---build began.
---@param opts? {min_level?: "debug"|"info"|"warn"|"error"} default info
---@return fun(entry: e2b.LogEntry)
function M.default_build_logger(opts)
    opts = options.check("default_build_logger", opts,
        { min_level = { "debug", "info", "warn", "error" } })
    local least = LEVELS[opts.min_level or "info"]
    local began = task.now()
    return function(entry)
        if entry.mark == "start" then
            began = task.now()
        end
        if entry.mark or (LEVELS[entry.level] or 1) < least then
            return
        end
        print(("%-7s| %s %-5s %s"):format(("%.1fs"):format(task.now() - began),
            os.date("%H:%M:%S", entry.timestamp), entry.level:upper(), entry.message))
    end
end

return M
