-- Which backend a call goes to, and what every request to it carries:
-- explicit option, then environment and .env, then the embedded engine.
local Error = require "e2b.error"
local dotenv = require "e2b.dotenv"
local process = require "e2b_process"

local M = {}

---Version of this SDK; the same as `e2blua --version`.
M.VERSION = "0.1.0"
---Seconds a request may take unless an option says otherwise.
M.REQUEST_TIMEOUT = 60
---Port of the daemon in every sandbox.
M.ENVD_PORT = 49983

local DEFAULT_DOMAIN <const> = "e2b.app"
local RETRIES <const> = 3

-- Domains whose sandboxes are all reached by one name.
local SHARED_DOMAINS = {
    ["e2b.app"] = true,
    ["e2b.dev"] = true,
    ["e2b.pro"] = true,
    ["e2b-staging.dev"] = true,
    ["e2b-tango.dev"] = true,
    ["e2b-juliett.dev"] = true,
    ["foxtrot-2.e2b.dev"] = true,
}

---@class e2b.Config
---@field backend "local"|"remote"
---@field why string what decided the backend
---@field api_url string base URL of the control plane
---@field sandbox_url? string base URL of all sandboxes' daemons
---@field api_key string
---@field domain string sandboxes are at <port>-<id>.<domain>
---@field scheme "http"|"https" of the URLs of sandboxes
---@field unix? string path of the engine's socket
---@field proxy? string
---@field request_timeout number seconds; 0: none
---@field retries integer
---@field headers table<string, string> of requests to the control plane
---@field agent_headers table<string, string> of all requests
---@field base e2b.Config the one that a call's options were laid over

---Whether the URL's host is this machine.
---@param url string
---@return boolean
function M.is_loopback(url)
    local host = url:match("^%a+://%[([%x:]+)%]") or url:match("^%a+://([^/:]+)") or ""
    return host == "localhost" or host == "::1" or host:match("^127%.%d+%.%d+%.%d+$") ~= nil or
        host:match("%.localhost$") ~= nil
end

local function check_url(name, url)
    if not url:match("^https?://[^/?#%s]+") then
        Error.raise("invalid_argument",
            ("%s must be a URL that begins with http:// or https://, not %q"):format(name, url))
    end
    return (url:gsub("/+$", ""))
end

-- The setting by explicit option, then environment; says where it came from.
local function setting(opts, option, variable)
    local value = opts[option]
    if value ~= nil and value ~= "" then
        return value, "the option " .. option
    end
    local source
    value, source = dotenv.lookup(variable)
    if value then
        return value, variable .. (source == ".env" and " in .env" or " in the environment")
    end
    return nil
end

local function forced(opts)
    if opts.backend then
        return opts.backend, "the option backend"
    end
    local value = dotenv.lookup("E2BLUA_BACKEND")
    if value and value ~= "local" and value ~= "remote" then
        Error.raise("invalid_argument",
            ("E2BLUA_BACKEND must be local or remote, not %q"):format(value))
    end
    return value, "E2BLUA_BACKEND"
end

local function merged(...)
    local all = {}
    for _, headers in ipairs({ ... }) do
        for name, value in pairs(headers) do
            all[name] = value
        end
    end
    return all
end

local told = {}

-- For -v, once each.
local function tell(config)
    local text = ("%s, at %s (%s)"):format(config.backend == "local" and "this machine's engine"
        or "remote", config.api_url, config.why)
    if not told[text] then
        told[text] = true
        process.log("backend", text)
    end
end

local function common(config, opts)
    tell(config)
    config.base = config
    local agent = { ["User-Agent"] = "e2blua/" .. M.VERSION }
    config.agent_headers = agent
    config.headers = merged(agent, {
        lang = "lua",
        lang_version = _VERSION:match("%d+%.%d+"),
        package_version = M.VERSION,
        publisher = "e2blua",
        sdk_runtime = "e2blua",
        system = "Linux",
    }, opts.headers or {}, opts.api_headers or {})
    config.headers["X-API-KEY"] = config.api_key
    config.request_timeout = opts.request_timeout or M.REQUEST_TIMEOUT
    config.retries = opts.retries or RETRIES
    config.proxy = opts.proxy
    if config.retries < 0 then
        Error.raise("invalid_argument",
            ("retries must be 0 or more, not %d"):format(config.retries))
    end
    return config
end

local function remote(opts, why)
    local api_url, api_source = setting(opts, "api_url", "E2B_API_URL")
    local domain = setting(opts, "domain", "E2B_DOMAIN")
    local api_key = setting(opts, "api_key", "E2B_API_KEY")
    local sandbox_url, sandbox_source = setting(opts, "sandbox_url", "E2B_SANDBOX_URL")
    if not api_key then
        Error.raise("authentication", "no API key for the E2B API (" .. why .. ")",
            { remedy = "set E2B_API_KEY in the environment or in .env, or pass api_key;" ..
                " E2BLUA_BACKEND=local uses this machine" })
    end
    if not opts.api_key then
        dotenv.warn_of_foreign_url({ "E2B_API_URL", "E2B_DOMAIN", "E2B_SANDBOX_URL" },
            "E2B_API_KEY")
    end
    domain = domain or DEFAULT_DOMAIN
    api_url = api_url and check_url(api_source, api_url) or "https://api." .. domain
    sandbox_url = sandbox_url and check_url(sandbox_source, sandbox_url)
    return {
        backend = "remote",
        why = why,
        api_url = api_url,
        sandbox_url = sandbox_url,
        api_key = api_key,
        domain = domain,
        scheme = (sandbox_url or api_url):match("^(https?):"),
    }
end

local function embedded(why)
    local engine = require("engine.client").ensure()
    return {
        backend = "local",
        why = why,
        api_url = engine.api_url,
        sandbox_url = engine.sandbox_url,
        api_key = engine.api_key,
        domain = engine.domain,
        unix = engine.unix,
        scheme = "http",
    }
end

-- The first setting that asks for a server, or nil.
local function asks_for_remote(opts)
    for _, option in ipairs({ "api_url", "domain", "api_key", "sandbox_url" }) do
        if opts[option] and opts[option] ~= "" then
            return "the option " .. option, true
        end
    end
    for _, variable in ipairs({ "E2B_API_URL", "E2B_DOMAIN", "E2B_API_KEY", "E2B_SANDBOX_URL" }) do
        local value, source = dotenv.lookup(variable)
        if value then
            return variable .. (source == ".env" and " in .env" or " in the environment"), false
        end
    end
    return nil
end

---Which backend a call with these options uses, and what decides that. Starts
---nothing.
---@param opts? table as of resolve
---@return "local"|"remote" backend
---@return string why
---@return string|nil by what forces this machine, when it does
function M.which(opts)
    opts = opts or {}
    local backend, by = forced(opts)
    local why, explicit = asks_for_remote(opts)
    if backend == "remote" then
        return "remote", by .. "=remote"
    elseif not why or backend == "local" and not explicit then
        return "local", backend and by .. "=local" or "no server is configured"
    end
    return "remote", why, backend == "local" and by or nil
end

---What a call with these options talks to. Starts the embedded engine when it
---is that one.
---@param opts? table options of a call, checked against options.API
---@return e2b.Config
function M.resolve(opts)
    opts = opts or {}
    local backend, why, by = M.which(opts)
    if backend == "local" then
        return common(embedded(why), opts)
    end
    local config = remote(opts, why)
    -- What is forced to be local must not spend money, whatever a script says.
    if by and not M.is_loopback(config.api_url) then
        Error.raise("invalid_argument",
            ("%s asks for %s, but %s=local allows this machine only"):format(why,
                config.api_url, by),
            { remedy = "leave the option out, or set E2BLUA_BACKEND=remote" })
    end
    return common(config, opts)
end

---Finds this machine's engine anew, or starts one: it has the sandboxes of one
---that died, mostly at the same address. An engine that has ended in order is
---not started again: its sandboxes have ended too.
---@param config e2b.Config of the local backend, changed
---@return boolean found
---@return e2b.Error|nil why none could be started
function M.revive(config)
    local client, base = require("engine.client"), config.base
    if not client.info(require("engine.paths").of()) then
        return false
    end
    local ok, engine = pcall(client.ensure, { anyhow = true })
    if not ok then
        if not Error.is(engine) or engine.kind == "cancelled" or engine.kind == "interrupted" then
            error(engine, 0)
        end
        return false, engine
    end
    base.api_url, base.sandbox_url = engine.api_url, engine.sandbox_url
    base.api_key, base.domain = engine.api_key, engine.domain
    base.headers["X-API-KEY"] = engine.api_key
    return true
end

---Base URL of a sandbox's daemon.
---@param config e2b.Config
---@param sandbox_id string
---@param domain string of the sandbox
---@return string
function M.envd_url(config, sandbox_id, domain)
    if config.sandbox_url then
        return config.sandbox_url
    end
    if SHARED_DOMAINS[domain] then
        return "https://sandbox." .. domain
    end
    return ("%s://%d-%s.%s"):format(config.scheme, M.ENVD_PORT, sandbox_id, domain)
end

return M
