-- The engine's state in SQLite and its clock, in the forms the API shows.
local Error = require "e2b.error"
local process = require "e2b_process"
local wire = require "e2b_wire"

local State = {}
State.__index = State

local M = {}

---@param path string
---@return table
function M.open(path)
    local db = Error.check(require("e2b_engine").store(path))
    return setmetatable({ db = db }, State)
end

---Rows of a statement, by column name.
---@param sql string
---@param ... any parameters
---@return table[] rows
function State:rows(sql, ...)
    return (Error.check(self.db:query(sql, ...)))
end

---The first row or nil.
function State:row(sql, ...)
    return self:rows(sql, ...)[1]
end

---Runs a statement.
---@return integer changed rows
function State:exec(sql, ...)
    local _, changes = Error.check(self.db:query(sql, ...))
    return changes
end

---All or nothing; fn must not wait.
---@param fn fun()
function State:transaction(fn)
    self:exec("BEGIN IMMEDIATE")
    local ok, err = pcall(fn)
    self:exec(ok and "COMMIT" or "ROLLBACK")
    if not ok then
        error(err, 0)
    end
end

---A value kept by name.
function State:get(key)
    local row = self:row("SELECT value FROM meta WHERE key = ?1", key)
    return row and row.value
end

function State:set(key, value)
    self:exec("INSERT INTO meta(key, value) VALUES(?1, ?2) " ..
        "ON CONFLICT(key) DO UPDATE SET value = ?2", key, value)
end

function State:close()
    self.db:close()
end

---Microseconds since 1970.
---@return integer
function M.now()
    return process.clock()
end

---Both clocks that ends of life need.
---@return engine.Clocks
function M.clocks()
    return { wall = process.clock(), boot = process.boot_clock() }
end

---RFC 3339 in UTC with microseconds.
---@param us integer
---@return string
function M.time(us)
    return os.date("!%Y-%m-%dT%H:%M:%S", us // 1000000) .. (".%06dZ"):format(us % 1000000)
end

local ALPHABET <const> = "abcdefghijklmnopqrstuvwxyz0123456789"

---n random characters of [a-z0-9].
---@param n integer
---@return string
function M.random_id(n)
    local out = {}
    for byte in wire.random(n):gmatch("%x%x") do
        local i = tonumber(byte, 16) % #ALPHABET + 1
        out[#out + 1] = ALPHABET:sub(i, i)
    end
    return table.concat(out)
end

---A random UUID of version 4.
---@return string
function M.uuid()
    local hex = wire.random(16)
    local variant = ("89ab"):sub(tonumber(hex:sub(17, 17), 16) % 4 + 1):sub(1, 1)
    return ("%s-%s-4%s-%s%s-%s"):format(hex:sub(1, 8), hex:sub(9, 12), hex:sub(14, 16), variant,
        hex:sub(18, 20), hex:sub(21, 32))
end

return M
