-- The calls of the control plane. Source: control plane reference, section 4.
local http = require "engine.http"
local json = require "e2b_json"
local logs = require "engine.logs"
local metrics = require "engine.metrics"
local once = require "engine.once"
local sandboxes = require "engine.sandboxes"
local wire = require "e2b_wire"

local M = {}

local PAGE <const> = 100

-- ---- listing ----------------------------------------------------------------

local function bad_metadata()
    http.fail(400, "Error parsing metadata")
end

-- Three layers: the query was decoded once, the value is a form whose names and
-- values are encoded themselves.
local function metadata_filter(text)
    if not text then
        return nil
    end
    local form = wire.unescape(text, true) or bad_metadata()
    local want = {}
    for pair in form:gmatch("[^&]+") do
        local name, value = pair:match("^([^=]*)=([^=]*)$")
        if not name then
            bad_metadata()
        end
        want[wire.unescape(name, true) or bad_metadata()] =
            wire.unescape(value, true) or bad_metadata()
    end
    return want
end

local function states_of(text)
    local states = {}
    for name in (text or "running,paused"):gmatch("[^,]+") do
        if name ~= "running" and name ~= "paused" then
            http.fail(400, ("validation error: state must be running or paused, not %q")
                :format(name))
        end
        states[name] = true
    end
    return states
end

-- Microseconds of an RFC 3339 time.
local function parse_time(text)
    local y, mo, d, h, mi, s, rest =
        text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)(.*)$")
    if not y then
        http.fail(400, ("validation error: startedAfter must be an RFC 3339 time, not %q")
            :format(text))
    end
    local fraction, zone = rest:match("^%.(%d+)(.*)$")
    zone = zone or rest
    local days = M.days(tonumber(y), tonumber(mo), tonumber(d))
    local us = ((days * 24 + h) * 60 + mi) * 60 + s
    us = math.tointeger(us) * 1000000 +
        math.tointeger(tonumber(((fraction or "0") .. "000000"):sub(1, 6)))
    local sign, zh, zm = zone:match("^([+-])(%d%d):?(%d%d)$")
    if sign then
        local offset = (zh * 60 + zm) * 60 * 1000000
        us = us - math.tointeger(offset) * (sign == "+" and 1 or -1)
    elseif zone ~= "Z" and zone ~= "z" then
        http.fail(400, ("validation error: startedAfter needs a time zone: %q"):format(text))
    end
    return us
end

---Days from 1970-01-01 to a date of the Gregorian calendar.
---@param y integer
---@param m integer
---@param d integer
---@return integer
function M.days(y, m, d)
    y = m <= 2 and y - 1 or y
    local era = y // 400
    local yoe = y - era * 400
    local doy = (153 * (m + (m > 2 and -3 or 9)) + 2) // 5 + d - 1
    return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468
end

local function filter_of(E, ctx)
    local want = metadata_filter(ctx:query("metadata"))
    local after = ctx:query("startedAfter")
    after = after and parse_time(after)
    local template = ctx:query("template")
    if template and template:find(":", 1, true) then
        http.fail(400, "Invalid template: " .. template)
    end
    local template_id = template and (E.templates:id_of(template:lower()) or "")
    return function(record)
        for name, value in pairs(want or {}) do
            if record.doc.metadata[name] ~= value then
                return false
            end
        end
        return (not after or record.started_at >= after) and
            (not template_id or record.template_id == template_id)
    end
end

-- Where the page begins: behind the row that the token names.
local function skip_to(records, token)
    if not token then
        return 1
    end
    local text = wire.unbase64(token)
    local started, id = (text or ""):match("^(%d+)__([a-z0-9]+)$")
    if not started then
        http.fail(400, "Invalid next token")
    end
    started = math.tointeger(tonumber(started))
    for i, r in ipairs(records) do
        if r.started_at < started or r.started_at == started and r.id > id then
            return i
        end
    end
    return #records + 1
end

local function list_sandboxes(E, ctx)
    local states = states_of(ctx:query("state"))
    local limit = ctx:number("limit", PAGE, 1, PAGE)
    local records = states.running and E.boxes:select(filter_of(E, ctx)) or {}
    local asc = ctx:query("order") == "asc"
    local from = skip_to(records, not asc and ctx:query("nextToken") or nil)
    if asc then
        local turned = {}
        for i = #records, 1, -1 do
            turned[#turned + 1] = records[i]
        end
        records = turned
        local token = ctx:query("nextToken")
        local id = token and (wire.unbase64(token) or ""):match("__([a-z0-9]+)$")
        for i, r in ipairs(records) do
            from = r.id == id and i + 1 or from
        end
    end
    local page, headers = json.array {}, {}
    for i = from, math.min(#records, from + limit - 1) do
        page[#page + 1] = sandboxes.listed(records[i])
    end
    if from + limit - 1 < #records then
        local last = records[from + limit - 1]
        headers["X-Next-Token"] = wire.base64(("%d__%s"):format(last.started_at, last.id))
    end
    if states.running then
        headers["X-Total-Running"] = tostring(#records)
    end
    return 200, page, headers
end

-- ---- the table --------------------------------------------------------------

local function sandbox_routes(r, E)
    r:on("POST", "/sandboxes", function(ctx) return 201, E.boxes:create(ctx:json(), false) end)
    r:on("POST", "/v2/sandboxes", function(ctx)
        return 201, once.create(E.boxes, ctx.req.headers["idempotency-key"], ctx:json())
    end)
    r:on("GET", "/v2/sandboxes", function(ctx) return list_sandboxes(E, ctx) end)
    r:on("GET", "/sandboxes", function(ctx) return list_sandboxes(E, ctx) end)
    r:on("GET", "/sandboxes/:id", function(ctx) return 200, E.boxes:detail(ctx.params.id) end)
    r:on("DELETE", "/sandboxes/:id", function(ctx)
        E.boxes:kill(ctx.params.id)
        return 204
    end)
    r:on("POST", "/sandboxes/:id/timeout", function(ctx)
        local seconds = http.field(ctx:json(), "timeout", "integer")
        if not seconds then
            http.fail(400, "validation error: timeout is required")
        end
        E.boxes:set_timeout(ctx.params.id, seconds)
        return 204
    end)
    r:on("PUT", "/sandboxes/:id/network", function(ctx)
        E.boxes:set_network(ctx.params.id, ctx:json())
        return 204
    end)
    for prefix, v2 in pairs { [""] = false, ["/v2"] = true } do
        r:on("POST", prefix .. "/sandboxes/:id/connect", function(ctx)
            return 200, E.boxes:connect(ctx.params.id,
                http.field(ctx:json(), "timeout", "integer"), v2)
        end)
    end
end

local function watching_routes(r, E)
    local far = math.maxinteger
    r:on("GET", "/sandboxes/metrics", function(ctx)
        return 200, metrics.last_of(E.boxes, ctx:query("sandbox_ids") or "")
    end)
    r:on("GET", "/sandboxes/:id/metrics", function(ctx)
        return 200, E.boxes:metrics(ctx.params.id, ctx:number("start", nil, 0, far),
            ctx:number("end", nil, 0, far))
    end)
    r:on("GET", "/sandboxes/:id/logs", function(ctx)
        return 200, E.boxes.logs:v1(ctx.params.id, ctx:number("start", 0, 0, far),
            ctx:number("limit", logs.LIMIT, 1, far))
    end)
    r:on("GET", "/v2/sandboxes/:id/logs", function(ctx)
        return 200, E.boxes.logs:v2(ctx.params.id, {
            cursor = ctx:number("cursor", nil, 0, far),
            limit = ctx:number("limit", logs.LIMIT, 1, logs.LIMIT),
            direction = ctx:query("direction") or "backward",
            level = ctx:query("level"),
            search = ctx:query("search"),
        })
    end)
end

-- The URL by which the client reached us, perhaps through a proxy with TLS.
local function base_url(E, req)
    local host = req.headers.host
    if not host or host == "localhost" then
        return "http://127.0.0.1:" .. E.port
    end
    return (req.headers["x-forwarded-proto"] == "https" and "https://" or "http://") .. host
end

local function build_routes(r, E)
    r:on("POST", "/v3/templates", function(ctx) return 202, E.templates:register(ctx:json()) end)
    r:on("GET", "/templates/:id/files/:hash", function(ctx)
        return 201, E.uploads:link(ctx.params.hash, base_url(E, ctx.req))
    end)
    r:on("PUT", "/_upload/:hash", function(ctx)
        E.uploads:put(ctx.params.hash, ctx.req)
        return 200
    end)
    r:open_last()
    r:on("POST", "/v2/templates/:id/builds/:build", function(ctx)
        E.builds:start(ctx.params.id, ctx.params.build, ctx:json())
        return 202
    end)
    r:on("GET", "/templates/:id/builds/:build/status", function(ctx)
        return 200, E.builds:status(ctx.params.id, ctx.params.build,
            ctx:number("logsOffset", 0, 0, 1 << 40), ctx:number("limit", PAGE, 1, PAGE),
            ctx:query("level"))
    end)
end

local function template_routes(r, E)
    r:on("GET", "/templates/aliases/:alias", function(ctx)
        return 200, E.templates:alias(ctx.params.alias)
    end)
    r:on("POST", "/templates/tags", function(ctx) return 201, E.templates:add_tags(ctx:json()) end)
    r:on("DELETE", "/templates/tags", function(ctx)
        E.templates:remove_tags(ctx:json())
        return 204
    end)
    r:on("GET", "/templates/:ref/tags", function(ctx)
        return 200, E.templates:tags(ctx.params.ref)
    end)
    r:on("GET", "/templates", function() return 200, E.templates:list() end)
    r:on("DELETE", "/templates/:ref", function(ctx)
        E.templates:delete(ctx.params.ref)
        return 204
    end)
end

---All routes.
---@param E table the engine
---@return table router
function M.new(E)
    local r = http.router()
    r:on("GET", "/health", function() return 200, "Health check successful" end)
    r:open_last()
    watching_routes(r, E)
    sandbox_routes(r, E)
    build_routes(r, E)
    template_routes(r, E)
    r:on("GET", "/_engine/status", function() return 200, E:status() end)
    r:private_last()
    r:on("POST", "/_engine/stop", function()
        E:stop()
        return 200, json.decode("{}")
    end)
    r:private_last()
    r:on("POST", "/_engine/step_down", function()
        E:step_down()
        return 200, json.decode("{}")
    end)
    r:private_last()
    return r
end

return M
