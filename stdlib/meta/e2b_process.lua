---@meta e2b_process

--- What the program knows of itself, locks, and how it starts its daemon
--- (host/bind/process.c).
---@class e2b_process
local M = {}

---@return string path  of the program
function M.exe() end

---@param path string
---@return string id  changes when the file is replaced; "" when there is none
function M.file_id(path) end

---@return integer
function M.pid() end

---@return integer uid  the effective one
function M.uid() end

---@return integer microseconds  since 1970
function M.clock() end

---@return integer microseconds  since the machine's boot, its sleep included; nobody can set it
function M.boot_clock() end

---@param fd integer
---@return boolean
function M.isatty(fd) end

--- From now on the program tells on stderr what it does, as with -v.
function M.verbose() end

--- A line for -v. No secrets.
---@param area string
---@param text string
function M.log(area, text) end

--- Starts a program in a session of its own, with nothing of ours open.
---@param argv string[]  its path and arguments
---@param log string  path of the file that its output is appended to
---@param env string[]  "NAME=value"
---@return integer? pid
---@return e2b.Error? err
function M.spawn_daemon(argv, log, env) end

---@param pid integer
---@return boolean  there is a process of that number
function M.alive(pid) end

--- Held until it is closed, collected, or the process ends. A <close> value.
---@class e2b_process.Lock
local Lock = {}

--- Twice is fine.
function Lock:close() end

---@param path string  made when it is missing
---@return e2b_process.Lock? lock  nil without an error: another process holds it
---@return e2b.Error? err
function M.lock(path) end

return M
