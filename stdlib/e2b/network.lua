-- The network and lifecycle options of a sandbox: names here, names on the
-- wire.
local json = require "e2b_json"
local Error = require "e2b.error"
local options = require "e2b.options"

local M = {}

---All addresses, for deny_out.
M.ALL_TRAFFIC = "0.0.0.0/0"

local WIRE = {
    allow_out = "allowOut",
    deny_out = "denyOut",
    rules = "rules",
    egress_proxy = "egressProxy",
    allow_public_traffic = "allowPublicTraffic",
    mask_request_host = "maskRequestHost",
    https_ports = "httpsPorts",
    dns_servers = "dnsServers",
}
local SPEC = {
    allow_out = "table",
    deny_out = "table",
    rules = "table",
    egress_proxy = "table",
    allow_public_traffic = "boolean",
    mask_request_host = "text",
    https_ports = "table",
    dns_servers = "table",
}
local LISTS = { "allow_out", "deny_out", "https_ports", "dns_servers" }

local UPDATE = {
    allow_out = "table",
    deny_out = "table",
    rules = "table",
    egress_proxy = "table",
    dns_servers = "table",
    allow_internet_access = "boolean",
}

local function wire(op, given, spec)
    local o = options.check(op .. " network", given, spec)
    for _, name in ipairs(LISTS) do
        if o[name] then
            o[name] = json.array(table.move(o[name], 1, #o[name], 1, {}))
        end
    end
    local body = {}
    for name, value in pairs(o) do
        body[WIRE[name] or name] = value
    end
    return body
end

---The network option as the API has it.
---@param op string
---@param given table
---@return table
function M.to_wire(op, given)
    return wire(op, given, SPEC)
end

---The rules of an update as the API has them.
---@param op string
---@param given table
---@return table
function M.update_to_wire(op, given)
    return wire(op, given, UPDATE)
end

---The API's network object with our names.
---@param object table
---@return table
function M.from_wire(object)
    local info = {}
    for name, wire_name in pairs(WIRE) do
        local value = object[wire_name]
        if type(value) ~= "userdata" then
            info[name] = value
        end
    end
    return info
end

local ACTIONS = { "kill", "pause" }
local LIFECYCLE = { on_timeout = "string|table", auto_resume = "boolean" }

---The lifecycle option as fields of the create call.
---@param op string
---@param given table|nil
---@return table
function M.lifecycle_to_wire(op, given)
    local o = options.check(op .. " lifecycle", given, LIFECYCLE)
    local action, keep = o.on_timeout, nil
    if type(action) == "table" then
        local form = options.check(op .. " on_timeout", action,
            { action = ACTIONS, keep_memory = "boolean" })
        action, keep = form.action, form.keep_memory
    end
    if action ~= nil then
        options.value(op, "on_timeout", action, ACTIONS)
    end
    if keep ~= nil and action ~= "pause" then
        Error.raise("invalid_argument",
            "keep_memory is only allowed when on_timeout action is 'pause'.", { op = op })
    elseif o.auto_resume and action ~= "pause" then
        Error.raise("invalid_argument",
            "auto_resume can only be True when on_timeout action is 'pause'.", { op = op })
    elseif o.auto_resume and keep == false then
        Error.raise("invalid_argument",
            "auto_resume is not possible when keep_memory is false", { op = op })
    end
    local body = { autoPauseMemory = keep }
    if action then
        body.autoPause = action == "pause"
    end
    if o.auto_resume ~= nil then
        body.autoResume = { enabled = o.auto_resume }
    end
    return body
end

return M
