---@meta e2b_fs

--- Files of the machine that runs the script (host/bind/fs.c). What can take long lets other
--- tasks run meanwhile and raises `cannot_wait` where waiting is impossible. A path with a zero
--- byte raises `invalid_argument`. Kinds of err: `not_found`, `not_enough_space`,
--- `invalid_argument`, `internal`.
---@class e2b_fs
local M = {}

---@param path string
---@param max? integer  bytes, default 256 MiB; more is an error
---@return string? bytes
---@return e2b.Error? err
function M.read_file(path, max) end

--- Writes a file whole or not at all (a new file takes the old one's place).
---@param path string
---@param data string
---@param mode? integer  default 0644
---@return true? ok
---@return e2b.Error? err
function M.write_file(path, data, mode) end

---@param path string
---@return string[]? names  sorted, without "." and ".."
---@return e2b.Error? err
function M.list(path) end

---@class e2b_fs.Stat
---@field type "file"|"dir"|"link"|"fifo"|"socket"|"char"|"block"|"other"
---@field size integer  bytes
---@field mode integer  permission bits
---@field mtime number  seconds since 1970
---@field uid integer
---@field gid integer

---@param path string
---@param nofollow? boolean  look at a link itself; default false
---@return e2b_fs.Stat? stat
---@return e2b.Error? err
function M.stat(path, nofollow) end

--- Makes a folder and those above it; one that exists is fine.
---@param path string
---@param mode? integer  default 0755
---@return true? ok
---@return e2b.Error? err
function M.mkdirs(path, mode) end

--- Removes a file, a link, or a folder with all in it; follows no link, crosses no mount.
--- Missing is fine. Raises `invalid_argument` for "/", "." and "..".
---@param path string
---@return true? ok
---@return e2b.Error? err
function M.remove_tree(path) end

---@return string? path  of the current folder
---@return e2b.Error? err
function M.cwd() end

---@param path string
---@return string? path  absolute, without links
---@return e2b.Error? err
function M.realpath(path) end

---@return table<string, string> environment  a copy
function M.environ() end

return M
