-- How e2blua cp copies: files as streams, folders as tar archives.
local Error = require "e2b.error"
local archive = require "e2b_archive"
local fs = require "e2b_fs"
local out = require "cli.lib.out"
local shell = require "e2b.template.shell"
local task = require "e2b_task"
local terminal = require "e2b_terminal"
local wire = require "e2b_wire"

local M = {}

---@class cli.Place
---@field path string
---@field id? string of a sandbox; nil: here
---@field sbx? e2b.Sandbox of the id
---@field user? string

---ID:PATH, - for standard input and output, else a path here. A path here with
---a colon is written ./a:b.
---@param text string
---@return cli.Place
function M.place(text)
    local id, path = text:match("^(%w[%w-]*):(.*)$")
    if id then
        return { id = id, path = path ~= "" and path or "." }
    end
    return { path = text }
end

local function opts_of(place, more)
    local o = more or {}
    o.user = place.user
    return o
end

---"file", "dir" or nil: nothing there.
---@param place cli.Place
---@return string|nil
function M.kind(place)
    if place.path == "-" and not place.id then
        return "file"
    elseif not place.id then
        local stat = fs.stat(place.path)
        return stat and (stat.type == "dir" and "dir" or "file")
    end
    local ok, info = pcall(place.sbx.files.get_info, place.sbx.files, place.path, opts_of(place))
    if ok then
        return info.type == "dir" and "dir" or "file"
    elseif Error.is(info, "file_not_found") then
        return nil
    end
    error(info, 0)
end

-- A <close> value that removes a file.
local function removed(path)
    return setmetatable({}, {
        __close = function()
            os.remove(path)
        end,
    })
end

local function open(path, mode)
    local f, why = io.open(path, mode)
    if not f then
        Error.raise("file_not_found", "cannot open " .. why)
    end
    return f
end

-- ---- files -------------------------------------------------------------------

local function pieces_of_stdin()
    local input = terminal.input(0)
    return function()
        return Error.check(input:read())
    end, input
end

-- What files:write takes, and what is to be closed.
local function source(place)
    if place.id then
        local stream = place.sbx.files:read(place.path, opts_of(place, { format = "stream" }))
        return stream, stream
    elseif place.path == "-" then
        return pieces_of_stdin()
    end
    local f = open(place.path, "rb")
    return f, f
end

local function next_piece(data)
    if type(data) == "function" then
        return data()
    end
    return data:read(65536)
end

-- Written beside its place and renamed: half a file is never taken for a whole.
local function write_here(path, data)
    if path == "-" then
        for piece in next_piece, data do
            out.write(io.stdout, piece)
        end
        return
    end
    local part = path .. ".part" .. wire.random(4)
    local _ <close> = removed(part)
    local f <close> = open(part, "wb")
    if type(data) == "table" then
        data:save(f)
    else
        for piece in next_piece, data do
            out.write(f, piece)
        end
    end
    f:close()
    local ok, why = os.rename(part, path)
    if not ok then
        Error.raise("internal", "cannot write " .. why)
    end
end

---@param from cli.Place
---@param to cli.Place
function M.file(from, to)
    local data, owner = source(from)
    local _ <close> = owner
    if to.id then
        to.sbx.files:write(to.path, data, opts_of(to))
    else
        write_here(to.path, data)
    end
end

-- ---- folders -----------------------------------------------------------------

local function quoted(path)
    -- a path that begins with '-' is no option
    return shell.quote(path:sub(1, 1) == "-" and "./" .. path or path)
end

-- An archive of the folder, here.
local function pack(from)
    if not from.id then
        local names = Error.check(archive.list(from.path, "."))
        return (Error.check(archive.pack(from.path, names, true)))
    end
    local path = (os.getenv("TMPDIR") or "/tmp") .. "/e2blua-" .. wire.random(8) .. ".tgz"
    local ok, err = pcall(function()
        local f <close> = open(path, "wb")
        local handle = from.sbx.commands:run("tar -czf - -C " .. quoted(from.path) .. " .", {
            background = true,
            timeout = 0,
            user = from.user,
            on_stdout = function(bytes)
                out.write(f, bytes)
            end,
        })
        require("e2b.commands").keep_nothing(handle)
        handle:wait()
    end)
    if not ok then
        os.remove(path)
        error(err, 0)
    end
    return path
end

-- Unpacked by the sandbox's own tar, inside.
local function unpack_there(to, path)
    local remote = "/tmp/e2blua-" .. wire.random(8) .. ".tgz"
    local _ <close> = setmetatable({}, {
        __close = function()
            pcall(task.shield, to.sbx.files.remove, to.sbx.files, remote, opts_of(to))
        end,
    })
    M.file({ path = path }, { id = to.id, sbx = to.sbx, user = to.user, path = remote })
    to.sbx.commands:run(("mkdir -p %s && tar -xzf %s -C %s"):format(quoted(to.path), remote,
        quoted(to.path)), { timeout = 0, user = to.user })
end

---@param from cli.Place
---@param to cli.Place
function M.folder(from, to)
    if to.path == "-" and not to.id then
        Error.raise("invalid_argument", "a folder cannot be written to the standard output",
            { remedy = ("e2blua exec %s -- tar -cz %s gives an archive"):format(from.id or "ID",
                from.path) })
    end
    local path = pack(from)
    local _ <close> = removed(path)
    if to.id then
        unpack_there(to, path)
    else
        Error.check(archive.unpack(path, to.path))
    end
end

return M
