-- The client's side of the embedded engine: finds the running one or starts
-- it. Its private verbs go over the unix socket of mode 0600 alone.
local Error = require "e2b.error"
local fs = require "e2b_fs"
local json = require "e2b_json"
local paths = require "engine.paths"
local process = require "e2b_process"
local task = require "e2b_task"

local M = {}

local START_SECONDS <const> = 20
local STOP_SECONDS <const> = 30

-- What of the caller's environment the daemon gets: no keys, no LUA_PATH.
local INHERITED = {
    "^PATH$", "^HOME$", "^USER$", "^LOGNAME$", "^LANG$", "^LC_", "^TZ$", "^TMPDIR$", "^XDG_",
    "^[a-z]+_proxy$", "^[A-Z]+_PROXY$", "^SSL_CERT_", "^NODE_EXTRA_CA_CERTS$", "^CURL_CA_BUNDLE$",
    "^REQUESTS_CA_BUNDLE$", "^npm_config_registry$", "^NPM_CONFIG_REGISTRY$", "^PIP_[A-Z_]+$",
    "^UV_INDEX_URL$", "^UV_DEFAULT_INDEX$", "^YARN_NPM_REGISTRY_SERVER$", "^GOPROXY$", "^GOSUMDB$",
    "^E2BLUA_HOSTS_FILE$",
    "^E2BLUA_STDLIB$", "^E2BLUA_IDLE$", "^E2BLUA_PORT$", "^E2BLUA_READY_SECONDS$",
    "^E2BLUA_CACHE_MAX$",
    "^[A-Z]+SAN_OPTIONS$",
}

local function daemon_environment()
    local out = {}
    for name, value in pairs(fs.environ()) do
        for _, pattern in ipairs(INHERITED) do
            if name:find(pattern) then
                out[#out + 1] = name .. "=" .. value
                break
            end
        end
    end
    return out
end

---One private call to the engine of these paths.
---@param p engine.Paths
---@param method string
---@param target string
---@param timeout? number seconds, default 10
---@return table|nil answer nil: no engine answers there
---@return e2b.Error|nil
function M.call(p, method, target, timeout)
    local httpc = require "e2b_httpc"
    local x <close>, err = httpc.open {
        method = method,
        url = "http://localhost" .. target,
        unix = p.socket,
        -- A kept connection would only be one more thing that ends with the engine.
        headers = { Connection = "close" },
        timeout = timeout or 10,
    }
    if not x then
        return nil, err
    end
    local status, headers = x:wait()
    if not status then
        return nil, headers
    end
    local parts = {}
    for chunk in function() return x:read() end do
        parts[#parts + 1] = chunk
    end
    local body = table.concat(parts)
    local answer = body ~= "" and json.decode(body) or {}
    if status >= 300 then
        Error.raise("internal", ("the engine answered %d: %s"):format(status,
            type(answer) == "table" and answer.message or body))
    end
    return answer
end

---State of the running engine, or nil.
---@param p? engine.Paths
---@return table|nil
function M.status(p)
    p = p or paths.of()
    local key = M.info(p)
    return key and M.call(p, "GET", "/_engine/status", 10) or nil
end

---What engine.json says, or nil.
---@param p engine.Paths
---@return {port: integer, api_key: string, pid: integer, domain: string}|nil
function M.info(p)
    local text = fs.read_file(p.info)
    local info = text and json.decode(text)
    return type(info) == "table" and info.port and info or nil
end

-- Waits until no engine holds the home; ask is called until then.
local function await_end(p, ask)
    local deadline = task.now() + STOP_SECONDS
    while task.now() < deadline do
        do
            local lock <close>, err = process.lock(p.lock)
            if lock or err then
                return
            end
        end
        ask()
        task.sleep(0.02)
    end
    Error.raise("timeout", ("the engine did not end within %d s"):format(STOP_SECONDS),
        { deadline = "request", remedy = "look at " .. p.log })
end

---Asks the running engine to end, also one that is only starting; kills its
---sandboxes.
---@param p engine.Paths
---@return boolean stopped false: none ran
function M.stop(p)
    local asked = false
    await_end(p, function()
        asked = asked or M.call(p, "POST", "/_engine/stop", STOP_SECONDS) ~= nil
    end)
    return asked
end

local function log_tail(p)
    local text = fs.read_file(p.log, 1 << 30) or ""
    local lines = {}
    for line in text:gmatch("[^\n]+") do
        lines[#lines + 1] = line
    end
    return table.concat(lines, "\n  ", math.max(1, #lines - 4))
end

local function start(p)
    require("engine.places").check(p)
    local pid = Error.check(process.spawn_daemon(
        { process.exe(), "engine", "serve", p.home, p.cache }, p.log, daemon_environment()))
    local deadline, wait = task.now() + START_SECONDS, 0.005
    while task.now() < deadline do
        local status = M.call(p, "GET", "/_engine/status", 5)
        if status then
            return status
        end
        if not process.alive(pid) then
            Error.raise("internal", "the engine ended at its start; its log ends:\n  " ..
                log_tail(p), { remedy = "see " .. p.log })
        end
        task.sleep(wait)
        wait = math.min(wait * 1.5, 0.1)
    end
    Error.raise("timeout", ("the engine did not answer within %d s of its start; its log" ..
        " ends:\n  %s")
        :format(START_SECONDS, log_tail(p)), { deadline = "request", remedy = "see " .. p.log })
end

-- An engine of another build serves on until it can be replaced.
local function replace(p, status)
    if status.sandboxes > 0 or status.builds > 0 then
        Error.raise("unsupported", ("the running engine is of another build of e2blua and has %d" ..
            " sandboxes and %d builds"):format(status.sandboxes, status.builds),
            { remedy = "let them finish, or end them with: " .. require("e2b.program").name() ..
                " engine stop" })
    end
    M.stop(p)
end

-- Waits while the base image is being made; says how far it is.
local function await_image(p, status, progress)
    local said
    while status.image.state == "making" do
        local text = status.image.stage
        if status.image.percent and status.image.percent >= 0 then
            text = ("%s (%d %%)"):format(text, status.image.percent)
        end
        if text ~= said then
            progress(text)
            said = text
        end
        task.sleep(0.3)
        status = M.call(p, "GET", "/_engine/status", 10)
        if not status then
            Error.raise("internal",
                "the engine ended while it made the base image; its log ends:\n  "
                .. log_tail(p), { remedy = "see " .. p.log })
        end
    end
    if status.image.state == "failed" then
        Error.raise("template", "the base image could not be made: " .. status.image.message,
            { remedy = "mend the cause and call again; the making begins anew" })
    end
    return status
end

local function lines_to_stderr(text)
    io.stderr:write("e2blua: base image: ", text, "\n")
end

local function running(p)
    local status = M.info(p) and M.call(p, "GET", "/_engine/status", 10)
    if not status then
        return nil
    elseif status.stopping then
        await_end(p, function() end)
        return nil
    elseif status.build_id ~= paths.build_id() then
        replace(p, status)
        return nil
    end
    return status
end

local function found_or_started(p)
    local status = running(p)
    if status then
        return status
    end
    require("engine.places").make(p)
    local deadline = task.now() + START_SECONDS
    while true do
        local lock <close>, err = process.lock(p.start_lock)
        if err then
            error(err, 0)
        end
        status = running(p)
        if status then
            return status
        end
        if lock then
            return start(p)
        end
        if task.now() > deadline then
            Error.raise("timeout", ("another process has been starting the engine for %d s")
                :format(START_SECONDS), { deadline = "request", remedy = "see " .. p.log })
        end
        task.sleep(0.02)
    end
end

---@class engine.Connection
---@field api_url string
---@field sandbox_url string
---@field api_key string
---@field domain string "e2b.localhost:<port>"

---Finds the embedded engine or starts it, and waits for the base image.
---@param opts? {progress: fun(text: string)|nil, home: string|nil, cache: string|nil}
---@return engine.Connection
function M.ensure(opts)
    opts = opts or {}
    local p = paths.of(opts.home, opts.cache)
    local status = found_or_started(p)
    await_image(p, status, opts.progress or M.progress or lines_to_stderr)
    local info = M.info(p)
    if not info then
        Error.raise("internal", "the engine runs, but " .. p.info .. " cannot be read")
    end
    local url = ("http://127.0.0.1:%d"):format(info.port)
    return {
        api_url = url,
        sandbox_url = url,
        api_key = info.api_key,
        domain = info.domain,
    }
end

return M
