-- The sandboxes' way out: policies as the API has them, and what build steps
-- need of this machine (proxies, mirrors, certificate authorities). Source:
-- control plane reference, 5.3 and 5.13. The way itself is C.
local Error = require "e2b.error"
local engine = require "e2b_engine"
local fs = require "e2b_fs"
local http = require "engine.http"
local log = require "engine.log"

local M = {}

local ALL <const> = "0.0.0.0/0"
local LIST_MAX <const> = 1000
-- Any address outside would do: all DNS questions come to the engine.
M.RESOLV = "nameserver 192.0.2.53\noptions timeout:10 attempts:2\n"
-- The name under which a build step finds the loopback of the machine.
local MACHINE <const> = "machine.e2b.internal"
local BUNDLE <const> = "/etc/ssl/certs/ca-certificates.crt"

-- ---- policies ---------------------------------------------------------------

local function list_of(network, name)
    local list = http.field(network, name, "table", {})
    if #list > LIST_MAX then
        http.fail(400, ("validation error: network.%s has %d entries, at most %d are allowed")
            :format(name, #list, LIST_MAX))
    end
    local out = {}
    for key, text in pairs(list) do
        if math.type(key) ~= "integer" or type(text) ~= "string" then
            http.fail(400, ("validation error: network.%s must be an array of strings")
                :format(name))
        end
        out[key] = text
    end
    return out
end

local function check_dns_servers(network)
    local list = list_of(network, "dnsServers")
    if #list > 10 then
        http.fail(400, "validation error: network.dnsServers has at most 10 entries")
    end
    for _, ip in ipairs(list) do
        local parts = { ip:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$") }
        local good = #parts == 4
        for _, part in ipairs(parts) do
            good = good and #part <= 3 and tonumber(part) <= 255
        end
        if not good then
            http.fail(400, ("validation error: network.dnsServers: %q is not an IPv4 address")
                :format(ip))
        end
    end
end

---The policy of a request's fields; ends the request with 400 when they are wrong.
---@param internet boolean|nil allow_internet_access
---@param network table|nil the network object of the API
---@return userdata policy for Egress:add or Egress:set, once
function M.policy(internet, network)
    network = network or {}
    local allow, deny = list_of(network, "allowOut"), list_of(network, "denyOut")
    check_dns_servers(network)
    if http.field(network, "egressProxy", "table") then
        http.fail(403, "network.egressProxy is not enabled for this team")
    end
    deny = internet == false and { ALL } or deny
    local policy, err = engine.egress_policy { allow = allow, deny = deny }
    if not policy then
        http.fail(400, err.message)
    end
    return policy
end

-- ---- what build steps need of this machine ----------------------------------

local PROXIES = { "http_proxy", "https_proxy", "all_proxy", "ftp_proxy" }
local MIRRORS = { "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX",
    "NPM_CONFIG_REGISTRY", "npm_config_registry", "YARN_NPM_REGISTRY_SERVER", "GOPROXY", "GOSUMDB" }
local PLAIN = { "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "no_proxy", "NO_PROXY" }
local CA_NAMES = { "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT" }
local PORTS = { http = 80, https = 443, socks5 = 1080, socks5h = 1080, socks4 = 1080 }

-- Calls found(scheme, host, port) for each URL of a text.
local function urls(text, found)
    for scheme, authority in text:gmatch("(%a[%w+.-]*)://([^/%s\"',;|]+)") do
        local host = authority:match("([^@]*)$")
        local bare, port = host:match("^%[([%x:.]+)%]:?(%d*)$")
        if not bare then
            bare, port = host:match("^([^:]+):?(%d*)$")
        end
        port = math.tointeger(tonumber(port)) or PORTS[scheme:lower()]
        if bare and port then
            found(scheme, bare, port)
        end
    end
end

local function is_loopback(host)
    return host == "localhost" or host == "::1" or host:match("^127%.%d+%.%d+%.%d+$") ~= nil
end

-- The loopback of the machine is not the sandbox's.
local function from_inside(url)
    return (url:gsub("^(%a[%w+.-]*://)([^/]+)", function(scheme, authority)
        local user, host = authority:match("^(.*@)(.*)$")
        host = host or authority
        local bare, port = host:match("^%[?([%w:.-]-)%]?(:?%d*)$")
        if bare and is_loopback(bare) then
            return scheme .. (user or "") .. MACHINE .. port
        end
    end))
end

-- The first value of "name = value" in the files.
local function setting(files, name)
    for _, path in ipairs(files) do
        for line in (fs.read_file(path) or ""):gmatch("[^\n]+") do
            local value = line:match("^%s*" .. name .. "%s*=%s*(%S+)")
            if value then
                return value
            end
        end
    end
end

local function config_files(env)
    local home = env.HOME or "/root"
    return {
        pip = { env.PIP_CONFIG_FILE or "/etc/pip.conf", home .. "/.config/pip/pip.conf",
            home .. "/.pip/pip.conf" },
        npm = { home .. "/.npmrc", "/usr/local/etc/npmrc", "/usr/etc/npmrc", "/etc/npmrc" },
    }
end

local function machine_env(env)
    local out, files = {}, config_files(env)
    for _, name in ipairs(PROXIES) do
        local value = env[name] or env[name:upper()]
        if value and value ~= "" then
            out[name] = from_inside(value:find("://", 1, true) and value or "http://" .. value)
            out[name:upper()] = out[name]
        end
    end
    for _, name in ipairs(MIRRORS) do
        out[name] = env[name] and from_inside(env[name])
    end
    for _, name in ipairs(PLAIN) do
        out[name] = env[name]
    end
    local index, extra = setting(files.pip, "index%-url"), setting(files.pip, "extra%-index%-url")
    local registry = setting(files.npm, "registry")
    out.PIP_INDEX_URL = out.PIP_INDEX_URL or index and from_inside(index)
    out.PIP_EXTRA_INDEX_URL = out.PIP_EXTRA_INDEX_URL or extra and from_inside(extra)
    out.PIP_TRUSTED_HOST = out.PIP_TRUSTED_HOST or setting(files.pip, "trusted%-host")
    out.npm_config_registry = out.npm_config_registry or registry and from_inside(registry)
    if out.http_proxy or out.https_proxy or out.all_proxy then
        -- A ready command asks the sandbox itself, not the proxy.
        local own = "localhost,127.0.0.1,::1"
        local given = out.no_proxy or out.NO_PROXY
        out.no_proxy = given and given ~= "" and given .. "," .. own or own
        out.NO_PROXY = out.no_proxy
    end
    return out
end

local function apt_files()
    local out = { "/etc/apt/sources.list", "/etc/apt/apt.conf" }
    for _, dir in ipairs { "/etc/apt/sources.list.d", "/etc/apt/apt.conf.d" } do
        for _, name in ipairs(fs.list(dir) or {}) do
            out[#out + 1] = dir .. "/" .. name
        end
    end
    return out
end

-- Hosts and ports that this machine's owner has named as proxy or mirror: they
-- may have a private address.
local function pins_of(values)
    local pins = {}
    local function add(_, host, port)
        pins[#pins + 1] = { host = host, port = port }
    end
    for _, value in pairs(values) do
        urls(value, add)
    end
    for _, path in ipairs(apt_files()) do
        local text = (fs.read_file(path) or ""):gsub("\n[ \t]*#[^\n]*", "\n")
        urls(text, function(scheme, host, port)
            if not is_loopback(host) then
                add(scheme, host, port)
            end
        end)
    end
    return pins
end

-- ---- the engine's part ------------------------------------------------------

local Egress = {}
Egress.__index = Egress

-- An IPv6 route out: then names get an IPv6 address, too.
local function has_v6()
    for line in (fs.read_file("/proc/net/ipv6_route") or ""):gmatch("[^\n]+") do
        local dest, bits, device = line:match("^(%x+) (%x%x) .* (%S+)$")
        if device and device ~= "lo" and bits == "00" and not dest:find("[^0]") then
            return true
        end
    end
    return false
end

local function read_hosts(way, path)
    local text = Error.check(fs.read_file(path))
    for line in text:gmatch("[^\n]+") do
        local ip, names = line:gsub("#.*", ""):match("^%s*(%S+)%s+(.*)$")
        for name in (names or ""):gmatch("%S+") do
            Error.check(way:host(name, ip))
        end
    end
end

---@param on_line fun(id: string, text: string) gets what is refused; must not wait
---@param on_name fun(id: string, slot: integer, number: integer, name: string) gets what has to
--- be given to Egress:name by the next engine; must not wait
---@return table
function M.new(on_line, on_name)
    local env = fs.environ()
    local way = Error.check(engine.egress { v6 = has_v6(), on_line = on_line, on_name = on_name })
    for _, ip in ipairs { "127.0.0.1", "::1" } do
        Error.check(way:host(MACHINE, ip))
    end
    -- Names that the machine's resolver does not know (tests).
    if env.E2BLUA_HOSTS_FILE then
        read_hosts(way, env.E2BLUA_HOSTS_FILE)
    end
    local build_env = machine_env(env)
    local pins = pins_of(build_env)
    local cas = {}
    if (engine.extra_cas() or 0) > 0 then
        for _, name in ipairs(CA_NAMES) do
            cas[name] = BUNDLE
        end
    end
    for name, value in pairs(cas) do
        build_env[name] = value
    end
    return setmetatable({ way = way, build_env = build_env, pins = pins, cas = cas }, Egress)
end

---What all processes of a build step get: the machine's proxies, mirrors and
---certificate authorities.
---@return table<string, string>
function Egress:step_env()
    return self.build_env
end

---What all processes of a sandbox get where the machine re-signs TLS.
---@return table<string, string>
function Egress:sandbox_env()
    return self.cas
end

---The policy of a build step: open, and the machine's own proxies and mirrors.
---@return userdata policy
function Egress:step_policy()
    return Error.check(engine.egress_policy { pins = self.pins })
end

---Serves a sandbox that was just launched.
---@param id string
---@param handle userdata the box
---@param policy userdata
---@return string|nil note why there is no network
function Egress:add(id, handle, policy)
    local reason = handle:info().no_network
    if reason then
        if not self.missing then
            log.warn("no outgoing network: nf_tables is missing (%s)", reason)
        end
        self.missing = "no outgoing network: nf_tables is missing"
        return self.missing
    end
    Error.check(self.way:add(id, handle, policy))
end

---A name that the sandbox has been given the address of by an earlier engine.
---@param id string
---@param number integer
---@param name string
function Egress:name(id, number, name)
    self.way:name(id, number, name)
end

---@param id string
---@param policy userdata for new connections
function Egress:set(id, policy)
    self.way:policy(id, policy)
end

---@param id string
function Egress:remove(id)
    self.way:remove(id)
end

---What was refused, as a note.
---@param id string
---@return string|nil
function Egress:note(id)
    local report = self.way:report(id)
    if report and report.refused > 0 then
        return ("%d connection%s refused by policy, the last: %s; allow with allow_out"):format(
            report.refused, report.refused == 1 and "" or "s", table.concat(report.last, ", "))
    end
end

return M
