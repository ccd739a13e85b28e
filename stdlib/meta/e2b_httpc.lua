---@meta e2b_httpc

--- The HTTP client, on libcurl (host/bind/httpc.c).
---@class e2b_httpc
local M = {}

--- A request. A <close> value.
---@class e2b_httpc.Request
local Request = {}

--- Only with upload = true; waits for room.
---@param bytes string
---@return true? ok
---@return e2b.Error? err
function Request:write(bytes) end

--- Waits for room, then moves bytes from an open file into the upload, without a string of them.
---@param file file*
---@param max integer
---@return integer? bytes  0 at the file's end
---@return e2b.Error? err
function Request:send(file, max) end

--- The upload is complete.
function Request:finish() end

--- Waits for the head of the response.
---@return integer? status
---@return table<string, string>|e2b.Error headers  by lower-case name; or the error
function Request:wait() end

--- Waits for a piece of the body.
---@return string? piece  nil at its end
---@return e2b.Error? err
function Request:read() end

--- Writes the rest of the body into an open file, without a string for each piece.
---@param file file*
---@return integer? bytes
---@return e2b.Error? err
function Request:save(file) end

--- Twice is fine.
function Request:close() end

---@param opts {url: string, method?: string, headers?: table, body?: string, upload?: boolean,
--- length?: integer, timeout?: number, connect_timeout?: number, idle_timeout?: number, unix?:
--- string, proxy?: string, ca_file?: string, follow?: boolean, accept_encoding?: string, large?:
--- boolean} headers by name or as {{name, value}...}; timeout seconds until the head, default none;
--- connect_timeout default 30; idle_timeout seconds without a byte, default none; large: the
--- response is read in larger pieces, as fits a file
---@return e2b_httpc.Request? request
---@return e2b.Error? err  network, tls, timeout (deadline "request" or "idle"), protocol,
--- invalid_argument; `retryable` when nothing was sent
function M.open(opts) end

--- Closes the connections that the client keeps open for the next request.
function M.forget() end

---@return integer  requests that run
function M.active() end

return M
