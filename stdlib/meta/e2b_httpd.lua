---@meta e2b_httpd

--- The HTTP server (host/bind/httpd.c). Each request is handled in a task of its own.
---@class e2b_httpd
local M = {}

---@class e2b_httpd.Request
---@field method string
---@field target string
---@field path string  raw, before '?'
---@field headers table<string, string>  by lower-case name
local Request = {}

--- Waits for a piece of the body.
---@return string? piece  nil at its end
---@return e2b.Error? err
function Request:read() end

--- Waits for all of the body.
---@param max? integer  bytes, default 16 MiB; more is an error
---@return string? body
---@return e2b.Error? err
function Request:body(max) end

---@param name string
---@return string? value  decoded
function Request:query(name) end

--- Answers whole.
---@param status integer
---@param headers? table<string, string>
---@param body? string
---@return true? ok
---@return e2b.Error? err
function Request:reply(status, headers, body) end

--- Begins an answer in pieces.
---@param status integer
---@param headers? table<string, string>
---@param length? integer  bytes; without it chunked
---@return true? ok
---@return e2b.Error? err
function Request:begin(status, headers, length) end

--- Waits for room.
---@param bytes string
---@return true? ok
---@return e2b.Error? err
function Request:write(bytes) end

---@return true? ok
---@return e2b.Error? err
function Request:finish() end

--- Breaks the connection.
function Request:reset() end

--- A <close> value.
---@class e2b_httpd.Server
---@field port integer
local Server = {}

--- Listens at one more place.
---@param where {host?: string, port?: integer, unix?: string}
---@return integer? port  0 for unix
---@return e2b.Error? err
function Server:add(where) end

--- Takes no new connections; open ones end after their answer.
function Server:drain() end

--- Resets what is open. Twice is fine.
function Server:close() end

---@return integer
function Server:connections() end

---@param opts {host?: string, port?: integer, unix?: string, handler: fun(req:
--- e2b_httpd.Request), filter?: lightuserdata} host default "127.0.0.1", port default 0: any
---@return e2b_httpd.Server? server
---@return e2b.Error? err
function M.listen(opts) end

return M
