-- Client of the E2B control plane: JSON over HTTP, statuses as error kinds,
-- repetitions, pages.
local json = require "e2b_json"
local task = require "e2b_task"
local Error = require "e2b.error"
local transport = require "e2b.transport"

local M = {}

-- Statuses that say "nothing happened, try again", unless Should-Retry objects.
local RETRIED = { [429] = true, [502] = true, [503] = true, [504] = true }
local RETRY_WINDOW <const> = 60

local STATUS_KINDS = { [401] = "authentication", [429] = "rate_limit", [503] = "service_busy",
    [507] = "not_enough_space" }
local STATUS_TEXTS = {
    [401] = "401: Unauthorized, please check your credentials.",
    [429] = "429: Rate limit exceeded, please try again later.",
    [503] = "503: Service temporarily unavailable, please retry.",
}
local REMEDIES = {
    [401] = "check E2B_API_KEY (or the option api_key); E2BLUA_BACKEND=local needs none",
}
local CODE_KINDS = { sandbox_snapshot_guest_agent_unresponsive = "guest_unresponsive" }
local STARVED <const> = "sandbox_out_of_memory"

---@class e2b.api.Request
---@field op string the SDK's call, for errors
---@field method string
---@field path string already encoded
---@field query? table[] of {name, value}
---@field body? table sent as JSON
---@field headers? table<string, string>
---@field kind? string error kind of other statuses; default "sandbox"
---@field not_found? string error kind of 404
---@field not_found_text? string its message
---@field remedy? string of a 404
---@field ok table<integer, true> statuses that are a success

local function failure(config, req, status, headers, body)
    local text, object = transport.message(body, { config.api_key })
    local code = object and type(object.error_code) == "string" and object.error_code or nil
    local kind = CODE_KINDS[code] or STATUS_KINDS[status] or
        status == 404 and req.not_found or req.kind or "sandbox"
    local message = STATUS_TEXTS[status]
    if message then
        message = text ~= "" and message .. " - " .. text or message
    elseif status == 404 and req.not_found_text and code ~= STARVED then
        message = req.not_found_text
    else
        message = ("%d: %s"):format(status, text ~= "" and text or "(an answer without text)")
    end
    return Error.new(kind, message, {
        op = req.op,
        status = status,
        code = code,
        answered = object ~= nil,
        remedy = REMEDIES[status] or status == 404 and req.remedy or nil,
        retryable = RETRIED[status] and headers["should-retry"] ~= "false" or nil,
        retry_after = tonumber((headers["retry-after"] or ""):match("^%d+$")),
    })
end

-- Seconds to wait before the request is repeated, or nil: not at all.
local function pause(status, headers, n)
    local said = headers["should-retry"]
    if said and said:lower() ~= "true" or not said and not RETRIED[status] then
        return nil
    end
    local after = headers["retry-after"]
    if after and after:match("^%d+$") then
        return tonumber(after)
    end
    return math.min(10, 0.1 * 2 ^ n) * (0.5 + math.random() / 2)
end

local function attempt(config, req, left)
    local headers = {}
    for name, value in pairs(config.headers) do
        headers[name] = value
    end
    for name, value in pairs(req.headers or {}) do
        headers[name] = value
    end
    local body = req.body and json.encode(req.body)
    if body then
        headers["Content-Type"] = "application/json"
    end
    return transport.exchange(config, {
        op = req.op,
        method = req.method,
        url = config.api_url .. req.path .. transport.query(req.query),
        headers = headers,
        body = body,
        timeout = left,
        idle_timeout = left,
        limit = config.request_timeout,
    })
end

-- Answers of a last attempt, or of one whose failure is final.
local function until_final(config, req)
    local limit = config.request_timeout
    local window = limit > 0 and limit or RETRY_WINDOW
    local began = task.now()
    for n = 0, config.retries do
        local left = limit > 0 and math.max(0.001, began + limit - task.now()) or nil
        local status, headers, body = attempt(config, req, left)
        local wait
        if status then
            wait = not req.ok[status] and pause(status, headers, n)
        elseif headers.kind == "network" and (headers.retryable or
                config.backend == "local" and req.method == "GET") then
            wait = math.min(10, 0.1 * 2 ^ n)
        end
        if not wait or n == config.retries or task.now() + wait >= began + window then
            return status, headers, body
        end
        task.sleep(wait)
    end
end

---Calls the control plane.
---@param config e2b.Config
---@param req e2b.api.Request
---@return any body decoded JSON, nil when there is none
---@return table<string, string> headers
---@return integer status one of req.ok; every other one is raised
function M.call(config, req)
    local status, headers, body = until_final(config, req)
    if not status then
        if headers.kind == "network" and config.backend == "remote" then
            headers.remedy = headers.remedy or
                ("is %s right? It comes from %s"):format(config.api_url, config.why)
        end
        Error.raise(headers)
    end
    if not req.ok[status] then
        Error.raise(failure(config, req, status, headers, body))
    end
    if body == "" then
        return nil, headers, status
    end
    local value, err = json.decode(body)
    if value == nil then
        Error.raise("protocol", ("%s: the answer is not JSON: %s"):format(req.op, err.message),
            { op = req.op, status = status, cause = err })
    end
    return value, headers, status
end

-- ---- pages -------------------------------------------------------------------

---@class e2b.Paginator
---@field has_next boolean there is (before the first page: there may be) another page
---@field next_token string|nil where the next page begins
local Paginator = {}
Paginator.__index = Paginator

---A listing that has not been asked for yet.
---@param fetch fun(next_token: string|nil, opts: table|nil): any[], table<string, string>
---@param next_token? string
---@return e2b.Paginator
function M.paginator(fetch, next_token)
    return setmetatable({ has_next = true, next_token = next_token, _fetch = fetch }, Paginator)
end

---Fetches the next page.
---@param opts? table options of this request
---@return any[]
function Paginator:next_items(opts)
    if getmetatable(self) ~= Paginator then
        Error.raise("invalid_argument",
            "next_items was called without its object; use ':', as in pages:next_items()")
    end
    if not self.has_next then
        Error.raise("invalid_argument", "No more items to fetch",
            { remedy = "go on while has_next is true" })
    end
    local items, headers = self._fetch(self.next_token, opts)
    local token = headers["x-next-token"]
    self.next_token = token ~= "" and token or nil
    self.has_next = self.next_token ~= nil
    return items
end

return M
