-- What happened to sandboxes, in words: bounded, also of sandboxes that have ended
-- lately; the next engine has it of those that live. Source: control plane reference, section 5.15.
local http = require "engine.http"
local json = require "e2b_json"
local state = require "engine.state"
local wire = require "e2b_wire"

local M = {}

local KEPT <const> = 1000
local KEPT_OF_ENDED <const> = 100 -- sandboxes
local MAX_TEXT <const> = 4096
local LIMIT <const> = 1000
local MAX_SEARCH <const> = 256
local LEVELS <const> = { debug = 1, info = 2, warn = 3, error = 4 }

local Logs = {}
Logs.__index = Logs

---@param kept table the engine's state
---@return table
function M.new(kept)
    return setmetatable({ kept = kept, of = {}, ended = {} }, Logs)
end

-- A log that cannot be written (the disk is full) is no reason to fail; nothing is kept of
-- a sandbox whose row has gone.
local function keep(self, id, e, full)
    pcall(self.kept.exec, self.kept, "INSERT INTO box_logs(sandbox_id, at, level, message," ..
        " fields) SELECT id, ?2, ?3, ?4, ?5 FROM sandboxes WHERE id = ?1", id, e.at, e.level,
        wire.utf8(e.message), json.encode(e.fields))
    if full then
        pcall(self.kept.exec, self.kept, "DELETE FROM box_logs WHERE rowid = (SELECT min(rowid)" ..
            " FROM box_logs WHERE sandbox_id = ?1)", id)
    end
end

---A sandbox of an earlier engine keeps its log.
---@param id string
function Logs:adopted(id)
    local list = {}
    for i, row in ipairs(self.kept:rows("SELECT at, level, message, fields FROM box_logs" ..
        " WHERE sandbox_id = ?1 ORDER BY rowid", id)) do
        row.fields = json.decode(row.fields)
        list[i] = row
    end
    self.of[id] = list
end

---Adds a line to a sandbox's log. No secrets.
---@param id string
---@param level "debug"|"info"|"warn"|"error"
---@param message string
---@param fields? table<string, string>
function Logs:add(id, level, message, fields)
    local list = self.of[id]
    if not list then
        list = {}
        self.of[id] = list
    end
    list[#list + 1] = {
        at = state.now(),
        level = level,
        message = message:sub(1, MAX_TEXT),
        fields = fields or {},
    }
    local full = #list > KEPT
    keep(self, id, list[#list], full)
    if full then
        table.remove(list, 1)
    end
end

---The sandbox has ended: its log is kept until a hundred others have.
---@param id string
function Logs:close(id)
    self.ended[#self.ended + 1] = id
    if #self.ended > KEPT_OF_ENDED then
        self.of[table.remove(self.ended, 1)] = nil
    end
end

local function entry(e)
    return { timestamp = state.time(e.at), level = e.level, message = e.message, fields = e.fields }
end

-- A line as the official CLI reads it: a JSON object with a level.
local function line(e)
    local object = { level = e.level, message = e.message, logger = "engine" }
    for name, value in pairs(e.fields) do
        object[name] = object[name] or value
    end
    return { timestamp = state.time(e.at), line = json.encode(object) }
end

---The log of a sandbox that runs or has ended lately.
---@param id string
---@return table[]
function Logs:find(id)
    local plain = id:match("^[a-z0-9]+")
    return plain and self.of[plain] or
        http.fail(404, ("Sandbox %q doesn't exist or you don't have access to it"):format(id))
end

---GET /sandboxes/{id}/logs
---@param id string
---@param start integer milliseconds since 1970
---@param limit integer
---@return table answer
function Logs:v1(id, start, limit)
    local lines, entries = json.array {}, json.array {}
    for _, e in ipairs(self:find(id)) do
        if e.at // 1000 >= start and #lines < limit then
            lines[#lines + 1], entries[#entries + 1] = line(e), entry(e)
        end
    end
    return { logs = lines, logEntries = entries }
end

---GET /v2/sandboxes/{id}/logs
---@param id string
---@param q {cursor: integer|nil, limit: integer, direction: string, level: string|nil,
--- search: string|nil}
---@return table answer
function Logs:v2(id, q)
    if q.direction ~= "forward" and q.direction ~= "backward" then
        http.fail(400, ("validation error: direction must be forward or backward, not %q")
            :format(q.direction))
    elseif q.level and not LEVELS[q.level] then
        http.fail(400, ("validation error: level must be debug, info, warn or error, not %q")
            :format(q.level))
    elseif q.search and #q.search > MAX_SEARCH then
        http.fail(400, ("validation error: search has at most %d characters"):format(MAX_SEARCH))
    end
    local list, out = self:find(id), json.array {}
    local least, forward = LEVELS[q.level or "debug"], q.direction == "forward"
    local first, last, step = #list, 1, -1
    if forward then
        first, last, step = 1, #list, 1
    end
    for i = first, last, step do
        local e = list[i]
        local at = e.at // 1000
        local inside = not q.cursor or forward and at >= q.cursor or not forward and at <= q.cursor
        if inside and LEVELS[e.level] >= least and
            (not q.search or e.message:find(q.search, 1, true)) and #out < q.limit then
            out[#out + 1] = entry(e)
        end
    end
    return { logs = out }
end

M.LIMIT = LIMIT

return M
