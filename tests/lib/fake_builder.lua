--- A control plane that only builds templates, in the test's process: it keeps what it was sent
--- and answers what the test wants.
local httpd = require "e2b_httpd"
local json = require "e2b_json"
local t = require "tests"

local M = {}
M.__index = M

local TEMPLATE <const> = "tpl0000000000000000x"
local BUILD <const> = "11111111-2222-4333-8444-555555555555"

local function reply(req, status, doc)
    req:reply(status, { ["Content-Type"] = "application/json" }, doc and json.encode(doc) or "")
end

local function upload(fake, req, hash)
    local headers = {}
    for name, value in pairs(req.headers) do
        headers[name] = value
    end
    local body = req:body()
    fake.uploads[#fake.uploads + 1] = { hash = hash, body = body, headers = headers }
    if fake.upload_status then
        return req:reply(fake.upload_status, nil, "<Error>no room</Error>")
    end
    fake.present[hash] = true
    reply(req, 200)
end

local function status(fake, req)
    local n = tonumber(req:query("logsOffset"))
    fake.polls = fake.polls + 1
    local page = json.array {}
    for i = n + 1, math.min(#fake.entries, n + fake.page) do
        page[#page + 1] = fake.entries[i]
    end
    local ended = fake.polls > fake.building
    reply(req, 200, {
        templateID = TEMPLATE,
        buildID = BUILD,
        status = ended and (fake.reason and "error" or "ready") or "building",
        logs = json.array {},
        logEntries = page,
        reason = ended and fake.reason or nil,
    })
end

local function handle(fake, req)
    local line = req.method .. " " .. req.path
    fake.seen[#fake.seen + 1] = line
    local hash = req.path:match("^/put/(%x+)$")
    if hash then
        return upload(fake, req, hash)
    elseif req.headers["x-api-key"] ~= "e2b_0123456789" then
        return reply(req, 401, { code = 401, message = "no key" })
    end
    if line == "POST /v3/templates" then
        fake.registered = json.decode(req:body())
        return reply(req, 202, {
            templateID = TEMPLATE,
            buildID = BUILD,
            tags = fake.registered.tags or json.array { "default" },
        })
    end
    hash = line:match("^GET /templates/" .. TEMPLATE .. "/files/(%x+)$")
    if hash then
        return reply(req, 201, {
            present = fake.present[hash] == true,
            url = ("http://127.0.0.1:%d/put/%s?token=secret"):format(fake.server.port, hash),
            headers = { ["X-Blob"] = "yes", ["content-length"] = "1" },
        })
    elseif line == ("POST /v2/templates/%s/builds/%s"):format(TEMPLATE, BUILD) then
        fake.request = json.decode(req:body())
        return req:reply(202, nil, "")
    elseif line == ("GET /templates/%s/builds/%s/status"):format(TEMPLATE, BUILD) then
        return status(fake, req)
    elseif line == "GET /templates/aliases/known" then
        return reply(req, 200, { templateID = TEMPLATE, public = false })
    elseif line == "GET /templates/aliases/foreign" then
        return reply(req, 403, { code = 403, message = "not yours" })
    elseif line == "POST /templates/tags" then
        fake.tags = json.decode(req:body())
        return reply(req, 201, { tags = fake.tags.tags, buildID = BUILD })
    elseif line == "DELETE /templates/tags" then
        fake.tags = json.decode(req:body())
        return reply(req, 204)
    elseif line == "GET /templates/known/tags" then
        return reply(req, 200, json.array {
            { tag = "v1", buildID = BUILD, createdAt = "2026-01-01T10:00:00Z" },
        })
    end
    reply(req, 404, { code = 404, message = "not found" })
end

---@return table fake entries, page, building (polls until it ends), reason, upload_status
function M.start()
    local fake = setmetatable({
        entries = {}, page = 100, building = 1, polls = 0,
        uploads = {}, present = {}, seen = {},
    }, M)
    fake.server = assert(httpd.listen {
        host = "127.0.0.1",
        port = 0,
        handler = function(req)
            handle(fake, req)
        end,
    })
    t.cleanup(function()
        fake.server:close()
    end)
    return fake
end

--- Options of a call that goes to it.
function M:options(more)
    local opts = {
        backend = "remote",
        api_url = "http://127.0.0.1:" .. self.server.port,
        api_key = "e2b_0123456789",
    }
    for name, value in pairs(more or {}) do
        opts[name] = value
    end
    return opts
end

--- An entry of the log as the server sends it.
function M.entry(step, message, level)
    return {
        timestamp = "2026-01-01T10:00:00Z",
        level = level or "info",
        message = message,
        step = step,
    }
end

M.TEMPLATE, M.BUILD = TEMPLATE, BUILD

return M
