-- The engine's state in SQLite and its clock, in the forms the API shows.
local Error = require "e2b.error"
local engine = require "e2b_engine"
local log = require "engine.log"
local process = require "e2b_process"
local wire = require "e2b_wire"

local State = {}
State.__index = State

local M = {}

local EUCLEAN <const> = 117

-- What can be read of a damaged one goes on.
local function rescue(path, err)
    local aside = path .. ".damaged-" .. os.date("!%Y%m%dT%H%M%SZ")
    local db, rows = engine.store_rescue(path, aside)
    Error.check(db, rows)
    return db, ("%s: it is kept as %s, %d of its rows were rescued; build again what templates" ..
        " are missing"):format(err.message, aside, rows)
end

---Opens the state, or what can be rescued of a damaged one.
---@param path string
---@return table state
---@return string|nil notice what was lost
function M.open(path)
    local db, err = engine.store(path)
    local notice
    if not db and err.errno == EUCLEAN then
        db, notice = rescue(path, err)
    end
    return setmetatable({ db = Error.check(db, err), late = {} }, State), notice
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

---Runs a statement whose effect must come, now or (the disk is full) later:
---State:retry does it. Never raises.
---@param sql string
---@param ... any parameters
---@return boolean written now
function State:will(sql, ...)
    self:retry() -- never before what is waiting
    local ok, err = false, "others wait"
    if not self.late[1] then
        ok, err = pcall(self.exec, self, sql, ...)
    end
    if not ok then
        log.error("to be written later: %s", Error.is(err) and err.message or tostring(err))
        table.insert(self.late, table.pack(sql, ...))
    end
    return ok
end

---Writes what could not be written, in its order, as far as it goes.
function State:retry()
    while self.late[1] do
        local late = self.late[1]
        if not pcall(self.exec, self, table.unpack(late, 1, late.n)) then
            return
        end
        table.remove(self.late, 1)
        log.info("written what was late: %d more", #self.late)
    end
end

---All or nothing; fn must not wait.
---@param fn fun()
function State:transaction(fn)
    self:exec("BEGIN IMMEDIATE")
    local ok, err = pcall(fn)
    if ok then
        ok, err = pcall(self.exec, self, "COMMIT")
    end
    if not ok then
        pcall(self.exec, self, "ROLLBACK") -- a full disk may have done it
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
