-- The control plane's HTTP side: routes, the key, JSON in and out, errors.
-- Source: control plane reference, sections 1.2, 2 and 4.
local Error = require "e2b.error"
local json = require "e2b_json"
local log = require "engine.log"
local room = require "engine.room"
local wire = require "e2b_wire"

local M = {}

local Failure = {}
Failure.__index = Failure
Failure.__tostring = function(f)
    return ("%d: %s"):format(f.status, f.message)
end

---Ends the handling of a request with an error answer.
---@param status integer
---@param message string
---@param error_code? string
function M.fail(status, message, error_code)
    error(setmetatable({ status = status, message = message, error_code = error_code }, Failure), 0)
end

---@param v any
---@return boolean
function M.is_failure(v)
    return getmetatable(v) == Failure
end

local Router = {}
Router.__index = Router

---@return table router
function M.router()
    return setmetatable({ routes = {} }, Router)
end

local function split(path)
    local parts = {}
    for part in path:gmatch("[^/]+") do
        parts[#parts + 1] = part
    end
    return parts
end

---Adds a route; ":name" in the pattern matches one segment, decoded after the
---path was split.
---@param method string
---@param pattern string
---@param handler fun(ctx: table): integer, any, table|nil
function Router:on(method, pattern, handler)
    self.routes[#self.routes + 1] = { method = method, parts = split(pattern), handler = handler }
end

local function match(route, parts)
    if #route.parts ~= #parts then
        return nil
    end
    local params = {}
    for i, want in ipairs(route.parts) do
        if want:sub(1, 1) == ":" then
            local value = wire.unescape(parts[i])
            if not value then
                return nil
            end
            params[want:sub(2)] = value
        elseif want ~= parts[i] then
            return nil
        end
    end
    return params
end

function Router:find(method, path)
    local parts, other = split(path), false
    for _, route in ipairs(self.routes) do
        local params = match(route, parts)
        if params and route.method == method then
            return route, params
        end
        other = other or params ~= nil
    end
    return nil, other
end

---Equal, in a time that does not depend on where they differ.
---@param a string
---@param b string
---@return boolean
function M.same_secret(a, b)
    if #a ~= #b then
        return false
    end
    local diff = 0
    for i = 1, #a do
        diff = diff | (a:byte(i) ~ b:byte(i))
    end
    return diff == 0
end

local Context = {}
Context.__index = Context

---The request's JSON body; {} when there is none.
---@return table
function Context:json()
    local text, err = self.req:body()
    if not text then
        M.fail(err.kind == "invalid_argument" and 413 or 400, err.message)
    end
    if text == "" then
        return {}
    end
    local doc = json.decode(text)
    if type(doc) ~= "table" or json.is_array(doc) then
        M.fail(400, "validation error: the request body must be a JSON object")
    end
    return doc
end

---A field of a JSON object, with its type checked.
---@param doc table
---@param name string
---@param want "string"|"integer"|"boolean"|"table"
---@param default any
function M.field(doc, name, want, default)
    local v = doc[name]
    if v == nil or v == json.null then
        return default
    end
    local ok = type(v) == want or want == "integer" and math.type(v) == "integer"
    if not ok then
        M.fail(400, ("validation error: %s must be %s %s"):format(name,
            want == "integer" and "an" or "a", want == "table" and "JSON object or array" or want))
    end
    return v
end

---A whole number of the query, within bounds.
---@param name string
---@param default integer
---@param min integer
---@param max integer
function Context:number(name, default, min, max)
    local text = self.req:query(name)
    if not text then
        return default
    end
    local n = math.tointeger(tonumber(text))
    if not n or n < min or n > max then
        M.fail(400, ("validation error: %s must be a whole number from %d to %d, not %q")
            :format(name, min, max, text))
    end
    return n
end

function Context:query(name)
    return self.req:query(name)
end

local CORS = {
    ["Access-Control-Allow-Origin"] = "*",
    ["Access-Control-Expose-Headers"] = "X-Next-Token,X-Total-Running,RateLimit-Limit," ..
        "RateLimit-Remaining,RateLimit-Reset,Retry-After",
}

local function answer(req, status, body, headers)
    local all = {}
    for _, set in ipairs { CORS, headers or {} } do
        for name, value in pairs(set) do
            all[name] = value
        end
    end
    local text = ""
    if type(body) == "string" then
        text = body
    elseif body ~= nil then
        text = json.encode(body)
        all["Content-Type"] = "application/json"
    end
    req:reply(status, all, text)
end

local function failure(req, f)
    local body = { code = f.status, message = f.message, error_code = f.error_code }
    local headers
    if f.status == 503 then
        headers = { ["Retry-After"] = "1" }
    end
    answer(req, f.status, body, headers)
end

local function unauthorized(req, key)
    if req.unix then
        return nil
    end
    local given = req.headers["x-api-key"]
    if not given then
        return "authorization header is missing"
    end
    if not M.same_secret(given, key) then
        return "Invalid API key: it is not that of this engine (see engine.json in E2BLUA_HOME)"
    end
    return nil
end

local PREFLIGHT = {
    ["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE, OPTIONS",
    ["Access-Control-Allow-Headers"] = "*",
}

local function run(router, req, key)
    local route, params = router:find(req.method, req.path)
    if req.method == "OPTIONS" then
        return 204, nil, PREFLIGHT
    end
    if route and route.private and not req.unix then
        M.fail(404, "this endpoint is served on the engine's unix socket alone")
    end
    if not (route and route.open) then
        local why = unauthorized(req, key)
        if why then
            M.fail(401, why)
        end
    end
    if not route then
        M.fail(params and 405 or 404,
            ("%s %s is not a call of this engine"):format(req.method, req.path))
    end
    return route.handler(setmetatable({ req = req, params = params }, Context))
end

---A handler for e2b_httpd.listen.
---@param router table
---@param key string
---@param touched fun() called for each request
---@return fun(req: table)
function M.handler(router, key, touched)
    return function(req)
        touched()
        local ok, status, body, headers = pcall(run, router, req, key)
        if ok then
            if status then -- nil: the handler has answered
                answer(req, status, body, headers)
            end
            log.debug("%s %s -> %s", req.method, req.path, status or "stream")
        elseif M.is_failure(status) then
            failure(req, status)
            log.debug("%s %s -> %d %s", req.method, req.path, status.status, status.message)
        else
            log.error("%s %s failed: %s", req.method, req.path, tostring(status))
            failure(req, {
                status = Error.is(status, "not_enough_space") and 507 or 500,
                message = Error.is(status) and room.explain(status)
                    or "an internal error; the engine's log has it",
            })
        end
    end
end

---Marks the last added route as one for the unix socket alone.
function Router:private_last()
    self.routes[#self.routes].private = true
end

---Marks the last added route as one that needs no key.
function Router:open_last()
    self.routes[#self.routes].open = true
end

return M
