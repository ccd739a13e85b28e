-- sandbox.files: reading and writing files in a sandbox.
local wire = require "e2b_wire"
local json = require "e2b_json"
local Error = require "e2b.error"
local options = require "e2b.options"
local rpc = require "e2b.rpc"
local timestamp = require "e2b.timestamp"
local transport = require "e2b.transport"

local PIECE <const> = 64 * 1024
local TYPES = {
    FILE_TYPE_FILE = "file",
    FILE_TYPE_DIRECTORY = "dir",
    FILE_TYPE_SYMLINK = "symlink",
}

---@class e2b.Files
local Files = {}
Files.__index = Files

local M = {}

---@param connection e2b.Connection
---@return e2b.Files
function M.new(connection)
    return setmetatable({ _connection = connection }, Files)
end

local USER = options.spec(options.REQUEST, { user = "text" })
local PATH = { { "path", "text" } }

-- ---- entries -----------------------------------------------------------------

---@class e2b.EntryInfo
---@field name string
---@field type? "file"|"dir"|"symlink" nil: something else
---@field path string
---@field size integer bytes
---@field mode integer permission bits
---@field permissions string like "-rw-r--r--"
---@field owner string
---@field group string
---@field modified_time? integer seconds since 1970
---@field symlink_target? string
---@field metadata? table<string, string>

local function entry_of(e)
    return {
        name = e.name or "",
        type = e.isSymlink and "symlink" or TYPES[e.type],
        path = e.path or "",
        size = math.tointeger(tonumber(e.size or 0)) or 0,
        mode = math.tointeger(tonumber(e.mode or 0)) or 0,
        permissions = e.permissions or "",
        owner = e.owner or "",
        group = e.group or "",
        modified_time = timestamp.parse(e.modifiedTime),
        symlink_target = e.symlinkTarget,
        metadata = e.metadata,
    }
end

local function call(self, op, method, message, o, not_found)
    return rpc.unary(self._connection, {
        op = op,
        method = "filesystem.Filesystem/" .. method,
        message = message,
        user = o.user,
        request_timeout = o.request_timeout,
        not_found = not_found or "file_not_found",
    })
end

local function entry_from(op, answer)
    if type(answer.entry) ~= "table" then
        Error.raise("protocol", op .. ": the sandbox's answer has no entry", { op = op })
    end
    return entry_of(answer.entry)
end

---The entries of a folder.
---@param path string
---@param opts? {depth?: integer, user?: string, request_timeout?: number} depth: levels, default 1
---@return e2b.EntryInfo[]
--- Raises file_not_found, invalid_argument (not a folder, depth below 1).
function Files:list(path, opts, ...)
    local op = "files.list"
    options.object(op, self, Files)
    local o = options.arguments(op, PATH, options.spec(USER, { depth = "count" }), path, opts, ...)
    local answer = call(self, op, "ListDir", { path = o.path, depth = o.depth or 1 }, o)
    local list = {}
    for _, e in ipairs(answer.entries or {}) do
        local entry = entry_of(e)
        if entry.type then
            list[#list + 1] = entry
        end
    end
    return list
end

---What a path is.
---@param path string
---@param opts? {user?: string, request_timeout?: number}
---@return e2b.EntryInfo info; kind file_not_found when there is nothing
function Files:get_info(path, opts, ...)
    local op = "files.get_info"
    options.object(op, self, Files)
    local o = options.arguments(op, PATH, USER, path, opts, ...)
    return entry_from(op, call(self, op, "Stat", { path = o.path }, o))
end

-- The answer, or nil when the call failed with that kind and code.
local function unless(kind, code, ...)
    local ok, answer = pcall(...)
    if ok then
        return answer
    elseif Error.is(answer, kind) and (not code or answer.code == code) then
        return nil
    end
    return Error.raise(answer)
end

---Whether there is something at a path.
---@param path string
---@param opts? {user?: string, request_timeout?: number}
---@return boolean
function Files:exists(path, opts, ...)
    local op = "files.exists"
    options.object(op, self, Files)
    local o = options.arguments(op, PATH, USER, path, opts, ...)
    return unless("file_not_found", nil, call, self, op, "Stat", { path = o.path }, o) ~= nil
end

---Makes a folder, and those above it.
---@param path string
---@param opts? {user?: string, request_timeout?: number}
---@return boolean made false: it was there already
--- Raises invalid_argument when a file is in the way.
function Files:make_dir(path, opts, ...)
    local op = "files.make_dir"
    options.object(op, self, Files)
    local o = options.arguments(op, PATH, USER, path, opts, ...)
    return unless("sandbox", "already_exists", call, self, op, "MakeDir", { path = o.path }, o)
        ~= nil
end

---Renames or moves a file or folder.
---@param old_path string
---@param new_path string
---@param opts? {user?: string, request_timeout?: number}
---@return e2b.EntryInfo info of the new path; kind file_not_found
function Files:rename(old_path, new_path, opts, ...)
    local op = "files.rename"
    options.object(op, self, Files)
    local o = options.arguments(op, { { "old_path", "text" }, { "new_path", "text" } }, USER,
        old_path, new_path, opts, ...)
    return entry_from(op, call(self, op, "Move",
        { source = o.old_path, destination = o.new_path }, o))
end

---Removes a file, or a folder with all in it. What is not there is fine.
---@param path string
---@param opts? {user?: string, request_timeout?: number}
function Files:remove(path, opts, ...)
    local op = "files.remove"
    options.object(op, self, Files)
    local o = options.arguments(op, PATH, USER, path, opts, ...)
    call(self, op, "Remove", { path = o.path }, o)
end

-- ---- contents ----------------------------------------------------------------

local function limit_of(conn, o)
    local limit = o.request_timeout or conn.config.request_timeout
    return limit > 0 and limit or nil
end

local function files_request(conn, op, method, path, o)
    local query = transport.query({
        { "path", path },
        { "username", rpc.user_for(conn, op, o.user) },
    })
    local limit = limit_of(conn, o)
    return {
        op = op,
        method = method,
        url = conn.url .. "/files" .. query,
        headers = rpc.headers_for(conn),
        timeout = limit,
        idle_timeout = limit,
    }
end

---The contents of a file as a stream: `for piece in stream do`, or read();
---a <close> variable closes it.
---@class e2b.FileStream
local FileStream = {}
FileStream.__index = FileStream

local function failed(self, err)
    local conn, request = self._connection, self._request
    Error.raise(rpc.after_failure(conn, request.op, transport.explained(request, err)))
end

---@return string|nil piece nil at the end
function FileStream:read()
    if self._over then
        return nil
    end
    local piece, err = self._x:read()
    if not piece then
        self:close()
        if err then
            failed(self, err)
        end
    end
    return piece
end

FileStream.__call = FileStream.read

---Writes the rest into an open file: for large files quicker than piece by piece.
---@param file file*
---@return integer bytes
---Raises invalid_argument (no open file), not_enough_space and what read raises.
function FileStream:save(file)
    if io.type(file) ~= "file" then
        Error.raise("invalid_argument", ("save: an open file is needed, not %s"):format(
            io.type(file) or "a " .. type(file)), { op = "files.read" })
    elseif self._over then
        return 0
    end
    local bytes, err = self._x:save(file)
    self:close()
    if not bytes then
        failed(self, err)
    end
    return bytes
end

---Twice is fine.
function FileStream:close()
    self._over = true
    self._x:close()
end

FileStream.__close = FileStream.close

-- Raises unless the head of the answer says that all went well.
local function check_head(conn, request, x, status)
    if status >= 200 and status < 300 then
        return
    end
    local body, err = transport.body(x, request)
    if not body then
        Error.raise(rpc.after_failure(conn, request.op, err))
    end
    Error.raise(rpc.http_failure(conn, request.op, status, body, "file_not_found"))
end

local READ = options.spec(USER, {
    format = { "text", "bytes", "stream" },
    gzip = "boolean",
    stream_idle_timeout = "seconds",
})

---Reads a file. Text and bytes are the same in Lua: the bytes as they are.
---@param path string
---@param opts? table format "text" (default), "bytes" or "stream"; user string; gzip boolean:
--- compressed on its way; stream_idle_timeout number seconds without a byte, default
--- request_timeout; request_timeout number seconds, default 60, 0: none
---@return string|e2b.FileStream
--- Raises file_not_found, invalid_argument (a folder), timeout, sandbox_not_running.
function Files:read(path, opts, ...)
    local op = "files.read"
    options.object(op, self, Files)
    local o = options.arguments(op, PATH, READ, path, opts, ...)
    local conn = self._connection
    local request = files_request(conn, op, "GET", o.path, o)
    request.gzip, request.large = o.gzip, true
    if o.format == "stream" then
        request.idle_timeout = o.stream_idle_timeout or request.idle_timeout
    end
    local x, status = transport.begin(conn.config, request)
    if not x then
        Error.raise(rpc.after_failure(conn, op, status))
    end
    local guard <close> = rpc.guard(x)
    check_head(conn, request, x, status)
    local stream = setmetatable({ _x = x, _connection = conn, _request = request }, FileStream)
    if o.format == "stream" then
        guard.keep = true
        -- The fourth value lets a for loop close it when it is left early.
        return stream, nil, nil, stream
    end
    local pieces = {}
    for piece in stream do
        pieces[#pieces + 1] = piece
    end
    return table.concat(pieces)
end

---@class e2b.WriteInfo
---@field name string
---@field type? "file"|"dir"
---@field path string
---@field metadata? table<string, string>

local function infos_of(op, body)
    local list = json.decode(body)
    if type(list) ~= "table" or type(list[1]) ~= "table" then
        Error.raise("protocol", op .. ": the sandbox's answer names no file", { op = op })
    end
    for i, e in ipairs(list) do
        list[i] = { name = e.name, type = e.type, path = e.path, metadata = e.metadata }
    end
    return list
end

local function add_metadata(op, headers, metadata)
    for key, value in pairs(metadata or {}) do
        if not key:match("^[%w!#$%%&'*+.^_`|~-]+$") then
            Error.raise("invalid_argument",
                ('%s: metadata key %q is not a token of letters, digits and "-"'):format(op, key),
                { op = op })
        elseif value:find("[^\32-\126]") then
            Error.raise("invalid_argument",
                ("%s: metadata value of %s must be printable ASCII"):format(op, key), { op = op })
        end
        headers["X-Metadata-" .. key] = value
    end
end

local function pieces_of(data)
    local at = 1
    return function()
        local piece = data:sub(at, at + PIECE - 1)
        at = at + PIECE
        return piece ~= "" and piece or nil
    end
end

-- How many bytes of an open file are left; nil for what is no regular file.
local function rest_of(data)
    if io.type(data) ~= "file" then
        return nil
    end
    local at = data:seek()
    local size = at and data:seek("end")
    if not size or not data:seek("set", at) then
        return nil
    end
    return size > at and size - at or nil
end

-- A function that gives the data piece by piece.
local function source_of(op, data)
    if type(data) == "string" then
        return pieces_of(data)
    end
    local read = (type(data) == "userdata" or type(data) == "table") and data.read
    if not read then
        options.value(op, "data", data, "callable")
    end
    return function()
        local piece
        repeat
            if read then
                piece = read(data, PIECE)
            else
                piece = data()
            end
        until piece ~= ""
        if piece ~= nil and type(piece) ~= "string" then
            Error.raise("invalid_argument", ("%s: the data function must give strings, not a %s")
                :format(op, type(piece)), { op = op })
        end
        return piece
    end
end

-- Sends the data, of a file its `rest`, and waits for the head of the answer.
local function answered(conn, request, data, rest)
    if not request.upload then
        return transport.begin(conn.config, request)
    end
    local source = rest and data or source_of(request.op, data)
    transport.wake(conn.config, request)
    local x, err = transport.open(conn.config, request)
    if not x then
        return nil, err
    end
    local guard <close> = rpc.guard(x)
    local status, headers = transport.upload(x, request, source)
    guard.keep = status ~= nil
    if not status then
        return nil, headers
    end
    return x, status
end

-- Large and streamed bodies have no deadline as long as they make progress.
local function post(self, request, data)
    local conn = self._connection
    request.upload = type(data) ~= "string" or #data > PIECE
    request.body = not request.upload and data or nil
    local rest = rest_of(data)
    request.length = request.upload and type(data) == "string" and #data or rest
    local x <close>, status = answered(conn, request, data, rest)
    if not x then
        Error.raise(rpc.after_failure(conn, request.op, status))
    end
    check_head(conn, request, x, status)
    local body, broken = transport.body(x, request)
    if not body then
        Error.raise(rpc.after_failure(conn, request.op, broken))
    end
    return infos_of(request.op, body)
end

-- The body of a form with the files as its parts.
local function form(files)
    local boundary = "e2blua-" .. wire.random(16)
    local parts = {}
    for _, file in ipairs(files) do
        parts[#parts + 1] = ("--%s\r\nContent-Disposition: form-data; name=\"file\"; " ..
            "filename=\"%s\"\r\nContent-Type: application/octet-stream\r\n\r\n"):format(
            boundary, file.path)
        parts[#parts + 1] = file.data
        parts[#parts + 1] = "\r\n"
    end
    parts[#parts + 1] = "--" .. boundary .. "--\r\n"
    return "multipart/form-data; boundary=" .. boundary, table.concat(parts)
end

-- Whether the path can stand in a form's header as it is.
local function plain(path)
    return path ~= "" and not path:find("[^\32-\126]") and not path:find('["\\]')
end

local function write_form(self, op, files, path, o)
    local request = files_request(self._connection, op, "POST", path, o)
    add_metadata(op, request.headers, o.metadata)
    local content_type, body = form(files)
    request.headers["Content-Type"] = content_type
    return post(self, request, body)
end

local function write_raw(self, op, file, o)
    local request = files_request(self._connection, op, "POST", file.path, o)
    add_metadata(op, request.headers, o.metadata)
    request.headers["Content-Type"] = "application/octet-stream"
    return post(self, request, file.data)
end

-- The whole data as a string, for daemons that know forms only.
local function whole(op, data)
    if type(data) == "string" then
        return data
    end
    local pieces = {}
    for piece in source_of(op, data) do
        pieces[#pieces + 1] = piece
    end
    return table.concat(pieces)
end

local function write_one(self, op, file, o)
    if o.use_octet_stream == false or
        not rpc.at_least(self._connection.envd_version, "0.5.7") then
        local name = plain(file.path) and file.path or "file"
        return write_form(self, op, { { path = name, data = whole(op, file.data) } }, file.path, o)
    end
    return write_raw(self, op, file, o)
end

local DATA <const> = "string|callable|userdata|table"
local WRITE = options.spec(USER, { use_octet_stream = "boolean", metadata = "map" })

---Writes a file, and makes the folders above it. What was there is replaced.
---@param path string
---@param data string|fun(): string|nil or an open file, or a stream: sent as it comes
---@param opts? table user string; metadata table<string, string>; use_octet_stream boolean: false
--- sends a form; request_timeout number seconds for the answer, default 60, 0: none
---@return e2b.WriteInfo
--- Raises invalid_argument (a folder), not_enough_space, timeout, sandbox_not_running.
function Files:write(path, data, opts, ...)
    local op = "files.write"
    options.object(op, self, Files)
    local o = options.arguments(op, { PATH[1], { "data", DATA } }, WRITE, path, data, opts, ...)
    if type(o.data) ~= "string" then
        source_of(op, o.data)
    end
    return write_one(self, op, o, o)[1]
end

local function check_files(op, files)
    options.value(op, "files", files, "table")
    local all_plain, seen = true, {}
    for i, file in ipairs(files) do
        options.value(op, ("file %d"):format(i), file, "table")
        options.value(op, ("path of file %d"):format(i), file.path, "text")
        options.value(op, ("data of file %d"):format(i), file.data, DATA)
        if type(file.data) ~= "string" then
            source_of(op, file.data)
        end
        all_plain = all_plain and plain(file.path) and type(file.data) == "string"
        if seen[file.path] then
            Error.raise("invalid_argument", ("%s: file %d has the path of file %d"):format(op, i,
                seen[file.path]), { op = op })
        end
        seen[file.path] = i
    end
    return all_plain
end

---Writes several files, in one request where that is possible.
---@param files {path: string, data: string|fun(): string|nil}[]
---@param opts? table as of write
---@return e2b.WriteInfo[]
function Files:write_files(files, opts, ...)
    local op = "files.write_files"
    options.object(op, self, Files)
    local o = options.arguments(op, { { "files", "table" } }, WRITE, files, opts, ...)
    local all_plain = check_files(op, o.files)
    if #o.files > 1 and all_plain and not o.use_octet_stream then
        return write_form(self, op, o.files, nil, o)
    end
    local infos = {}
    for i, file in ipairs(o.files) do
        infos[i] = write_one(self, op, file, o)[1]
    end
    return infos
end

return M
