---@meta e2b_wire

--- Byte formats of the protocols (host/bind/wire.c).
---@class e2b_wire
local M = {}

---@param bytes string
---@return string text  standard alphabet, padded
function M.base64(bytes) end

---@param text string  standard or URL alphabet, padded or not
---@return string? bytes
---@return e2b.Error? err  kind `protocol`
function M.unbase64(text) end

--- Percent-encodes all but RFC 3986's unreserved characters.
---@param text string
---@return string
function M.escape(text) end

---@param text string
---@param plus? boolean  '+' is a space; default false
---@return string? text
---@return e2b.Error? err  kind `protocol`
function M.unescape(text, plus) end

---@param bytes string
---@return string text  what is not UTF-8 became U+FFFD
function M.utf8(bytes) end

---@param n integer  bytes, 1 to 1024
---@return string digits  2n hex digits from the kernel's generator
function M.random(n) end

--- A Connect envelope: flags, length, payload.
---@param flags integer  1 compressed, 2 end of stream
---@param payload string  at most 64 MiB
---@return string bytes
function M.connect(flags, payload) end

---@class e2b_wire.ConnectReader
local ConnectReader = {}

---@param bytes string
---@return e2b_wire.ConnectReader self
function ConnectReader:feed(bytes) end

---@return integer? flags  nil alone: more bytes are needed
---@return string|e2b.Error|nil payload  or, after nil, an error of kind `protocol`
function ConnectReader:next() end

---@param max? integer  bytes of one message, default and at most 64 MiB
---@return e2b_wire.ConnectReader
function M.connect_reader(max) end

---@class e2b_wire.SseReader
local SseReader = {}

---@param bytes string
---@return {event: string, data: string}[]? events  those that are complete now; may be empty
---@return e2b.Error? err  kind `protocol`: one event is over the limit
function SseReader:feed(bytes) end

---@param max? integer  bytes of one event, default and at most 64 MiB
---@return e2b_wire.SseReader
function M.sse_reader(max) end

return M
