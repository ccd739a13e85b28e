-- The scripts' HTTP client: whole answers (request, get, post) and streams
-- (open). HTTP/1.1, TLS verified, connections kept for the next request. A
-- status of 400 or more is an answer, not an error.
local Error = require "e2b.error"
local options = require "e2b.options"

local M = {}

local TIMEOUT <const> = 60
local CONNECT_TIMEOUT <const> = 30
local MAX_BODY <const> = 64 << 20

local WAY = {
    method = "text",
    headers = "table",
    timeout = "seconds",
    connect_timeout = "seconds",
    idle_timeout = "seconds",
    unix = "text",
    proxy = "text",
    ca_file = "text",
    follow = "boolean",
    accept_encoding = "text",
}
local WHOLE = options.spec(WAY, { body = "string", json = "any", max_body = "count" })
local STREAM = options.spec(WAY, {
    url = "text",
    body = "string",
    upload = "boolean",
    length = "integer",
})

-- 0 means "no deadline", as in the rest of the library.
local function seconds(n, default)
    n = n or default
    return n and n > 0 and n or nil
end

local function check(op, v, err)
    if v == nil and Error.is(err) then
        err.op = err.op or op
    end
    return Error.check(v, err)
end

local function has_header(headers, wanted)
    for name, value in pairs(headers or {}) do
        if type(value) == "table" then
            name = value[1]
        end
        if type(name) == "string" and name:lower() == wanted then
            return true
        end
    end
    return false
end

-- A list of {name, value}, so that one more can be added.
local function with_header(headers, name, value)
    local list = { { name, value } }
    for k, v in pairs(headers or {}) do
        list[#list + 1] = type(v) == "table" and v or { k, v }
    end
    return list
end

local function start(op, o)
    return check(op, require("e2b_httpc").open({
        method = o.method,
        url = o.url,
        headers = o.headers,
        body = o.body,
        upload = o.upload,
        length = o.length,
        timeout = seconds(o.timeout, TIMEOUT),
        connect_timeout = seconds(o.connect_timeout, CONNECT_TIMEOUT),
        idle_timeout = seconds(o.idle_timeout),
        unix = o.unix,
        proxy = o.proxy,
        ca_file = o.ca_file,
        follow = o.follow,
        accept_encoding = o.accept_encoding,
    }))
end

-- ---- streams -----------------------------------------------------------------

---@class e2b.http.Stream
---@field status? integer after wait
---@field headers? table<string, string> after wait; names in lower case
---@field private _x any
local Stream = {}
Stream.__index = Stream
Stream.__name = "e2b.http.Stream"

local function own(op, self)
    options.object(op, self, Stream)
    if not self._x then
        Error.raise("invalid_argument", op .. ": the stream is closed", { op = op })
    end
    return self._x
end

---Sends bytes of the body; waits while the server does not take them. Once the
---server has answered completely they are dropped: wait tells what it said.
---@param bytes string
---@return e2b.http.Stream self raises network, timeout, protocol
function Stream:write(bytes)
    local x = own("stream.write", self)
    options.value("stream.write", "bytes", bytes, "string")
    check("stream.write", x:write(bytes))
    return self
end

---Says that the body is complete.
---@return e2b.http.Stream self
function Stream:finish()
    own("stream.finish", self):finish()
    return self
end

---Waits for the head of the answer.
---@return integer status, table<string, string> headers names in lower case; raises network, tls,
---timeout, protocol
function Stream:wait()
    local x = own("stream.wait", self)
    if not self.status then
        self.status, self.headers = check("stream.wait", x:wait())
    end
    return self.status, self.headers
end

---The next piece of the answer's body, at most some hundred KiB.
---@return string|nil chunk nil at the end; raises network, timeout, protocol
function Stream:read()
    return (check("stream.read", own("stream.read", self):read()))
end

---The pieces one after the other: `for chunk in stream:chunks() do ... end`.
---@return fun(): string|nil
function Stream:chunks()
    own("stream.chunks", self)
    return function()
        return self:read()
    end
end

---Ends the exchange, also in its middle. Twice is fine.
function Stream:close()
    options.object("stream.close", self, Stream)
    if self._x then
        self._x:close()
        self._x = nil
    end
end

Stream.__close = Stream.close

---@class e2b.http.Options
---@field method? string default "GET", with a body "POST"
---@field headers? table {["Name"] = "value"} or {{"Name", "value"}, ...}
---@field timeout? number seconds until the head of the answer, default 60; 0: none
---@field connect_timeout? number seconds until there is a connection, default 30; 0: none
---@field idle_timeout? number seconds between two pieces of the body; request 60, open none
---@field unix? string path of a unix socket to connect to instead of the URL's host
---@field proxy? string URL of a proxy, "" for none; default: http_proxy, https_proxy, no_proxy
---@field ca_file? string trusted certificates; default $SSL_CERT_FILE, else the system's
---@field follow? boolean follow redirects, at most 10; default false
---@field accept_encoding? string for example "gzip": offered and decoded; default none

---Opens a request whose bodies are streams. Use `local s <close> = http.open{...}`.
---@param opts table e2b.http.Options and url, and body (a string) or upload = true (then write and
---finish; length = its size, if it is known)
---@return e2b.http.Stream stream raises invalid_argument; its methods raise what the network does
function M.open(opts)
    local o = options.check("http.open", opts, STREAM)
    options.value("http.open", "url", o.url, "text")
    o.method = o.method or ((o.body or o.upload) and "POST" or "GET")
    return setmetatable({ _x = start("http.open", o) }, Stream)
end

-- ---- whole answers -----------------------------------------------------------

---@class e2b.http.Response
---@field status integer
---@field headers table<string, string> names in lower case; several of one name joined by ", "
---@field body string

local function read_all(op, x, limit)
    local pieces, size = {}, 0
    while true do
        local piece = check(op, x:read())
        if not piece then
            return table.concat(pieces)
        end
        size = size + #piece
        if size > limit then
            Error.raise("protocol",
                ("%s: the body of the answer is larger than max_body, %d bytes"):format(op, limit),
                { op = op, remedy = "raise max_body, or read it in pieces with http.open" })
        end
        pieces[#pieces + 1] = piece
    end
end

local function exchange(op, o)
    if o.json ~= nil then
        if o.body then
            Error.raise("invalid_argument", op .. ": give body or json, not both", { op = op })
        end
        o.body = require("e2b_json").encode(o.json)
        if not has_header(o.headers, "content-type") then
            o.headers = with_header(o.headers, "Content-Type", "application/json")
        end
    end
    o.method = o.method or (o.body and "POST" or "GET")
    o.idle_timeout = o.idle_timeout or TIMEOUT
    local x <close> = start(op, o)
    local status, headers = check(op, x:wait())
    return { status = status, headers = headers, body = read_all(op, x, o.max_body or MAX_BODY) }
end

---One request and its whole answer.
---@param opts table e2b.http.Options and url, body (a string) or json (a value that is encoded),
---max_body (bytes, default 64 MiB)
---@return e2b.http.Response response raises invalid_argument, network, tls, timeout (deadline
---"request" or "idle"), protocol (also when the body is larger than max_body)
function M.request(opts)
    return exchange("http.request",
        options.arguments("http.request", { { "url", "text" } }, WHOLE, opts))
end

---GET.
---@param url string|table the URL, or all by name
---@param opts? table as for request
---@return e2b.http.Response
function M.get(url, opts)
    local o = options.arguments("http.get", { { "url", "text" } }, WHOLE, url, opts)
    o.method = o.method or "GET"
    return exchange("http.get", o)
end

---POST of opts.body or opts.json.
---@param url string|table the URL, or all by name
---@param opts? table as for request
---@return e2b.http.Response
function M.post(url, opts)
    local o = options.arguments("http.post", { { "url", "text" } }, WHOLE, url, opts)
    o.method = o.method or "POST"
    return exchange("http.post", o)
end

return M
