---@meta e2b_terminal

--- The terminal of the program, and its standard input read without holding up other tasks
--- (host/bind/terminal.c).
---@class e2b_terminal
local M = {}

---@param fd? integer  default 1
---@return integer? columns  nil: not a terminal
---@return integer? rows
function M.size(fd) end

--- Raw mode of a terminal. A <close> value; restored also when the program is killed.
---@class e2b_terminal.Raw
local Raw = {}

--- Twice is fine.
function Raw:restore() end

---@param fd? integer  default 0
---@return e2b_terminal.Raw? mode
---@return e2b.Error? err  kind `invalid_argument`: not a terminal
function M.raw(fd) end

--- A descriptor that is read as bytes come. A <close> value; the descriptor stays open.
---@class e2b_terminal.Input
local Input = {}

--- Waits for bytes.
---@return string? bytes  as many as there are; nil at the end
---@return e2b.Error? err
function Input:read() end

--- Twice is fine.
function Input:close() end

---@param fd? integer  default 0
---@return e2b_terminal.Input
function M.input(fd) end

--- Hears of changes of the window's size. A <close> value.
---@class e2b_terminal.Resizes
local Resizes = {}

--- Returns when the size has changed since the last call.
function Resizes:wait() end

--- Twice is fine.
function Resizes:close() end

---@return e2b_terminal.Resizes? resizes
---@return e2b.Error? err
function M.resizes() end

return M
