-- The client's side of the embedded engine: finds the running one or starts
-- it. Its private verbs go over the unix socket of mode 0600 alone.
local Error = require "e2b.error"
local fs = require "e2b_fs"
local json = require "e2b_json"
local paths = require "engine.paths"
local process = require "e2b_process"
local scope = require "engine.scope"
local task = require "e2b_task"

local M = {}

local START_SECONDS <const> = 20
local STOP_SECONDS <const> = 30
local REPLACE_SECONDS <const> = 70 -- creates that are under way are finished

-- What of the caller's environment the daemon gets: no keys, no LUA_PATH.
local INHERITED = {
    "^PATH$", "^HOME$", "^USER$", "^LOGNAME$", "^LANG$", "^LC_", "^TZ$", "^TMPDIR$", "^XDG_",
    "^[a-z]+_proxy$", "^[A-Z]+_PROXY$", "^SSL_CERT_", "^NODE_EXTRA_CA_CERTS$", "^CURL_CA_BUNDLE$",
    "^REQUESTS_CA_BUNDLE$", "^npm_config_registry$", "^NPM_CONFIG_REGISTRY$", "^PIP_[A-Z_]+$",
    "^UV_INDEX_URL$", "^UV_DEFAULT_INDEX$", "^YARN_NPM_REGISTRY_SERVER$", "^GOPROXY$", "^GOSUMDB$",
    "^E2BLUA_HOSTS_FILE$",
    "^E2BLUA_STDLIB$", "^E2BLUA_IDLE$", "^E2BLUA_PORT$", "^E2BLUA_READY_SECONDS$",
    "^E2BLUA_DISK_MB$", "^E2BLUA_CACHE_MAX$",
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
            type(answer) == "table" and answer.message or body), { status = status })
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

local function log_tail(p)
    local text = fs.read_file(p.log, 1 << 30) or ""
    local lines = {}
    for line in text:gmatch("[^\n]+") do
        lines[#lines + 1] = line
    end
    return table.concat(lines, "\n  ", math.max(1, #lines - 4))
end

local function held(p)
    local lock <close>, err = process.lock(p.lock)
    return not lock and not err
end

-- The status of the engine that was started behind the words; nil: it ended.
local function launch(p, words)
    for _, word in ipairs { process.exe(), "engine", "serve", p.home, p.cache } do
        words[#words + 1] = word
    end
    local pid = Error.check(process.spawn_daemon(words, p.log, daemon_environment()))
    local deadline, wait = task.now() + START_SECONDS, 0.005
    while task.now() < deadline do
        local status = M.call(p, "GET", "/_engine/status", 5)
        if status then
            return status
        end
        -- One that finds another engine in this home ends at once.
        if not process.alive(pid) and not held(p) then
            return nil
        end
        task.sleep(wait)
        wait = math.min(wait * 1.5, 0.1)
    end
    Error.raise("timeout", ("the engine did not answer within %d s of its start; its log" ..
        " ends:\n  %s")
        :format(START_SECONDS, log_tail(p)), { deadline = "request", remedy = "see " .. p.log })
end

local function start(p)
    local words = scope.words(scope.facts())
    -- Without systemd it runs, too, if with fewer limits.
    local status = #words > 0 and launch(p, words) or launch(p, {})
    if not status then
        Error.raise("internal", "the engine ended at its start; its log ends:\n  " ..
            log_tail(p), { remedy = "see " .. p.log })
    end
    return status
end

local function refuse_to_replace(status, cause)
    Error.raise("unsupported", ("the running engine is of another build of e2blua and has %d" ..
        " sandboxes and %d builds"):format(status.sandboxes, status.builds), {
            cause = cause,
            remedy = "let them finish, or end them with: " .. require("e2b.program").name() ..
                " engine stop",
        })
end

-- An engine of another build hands its sandboxes over to one of ours; builds
-- of templates it finishes first.
local function replace(p, status)
    if status.builds > 0 then
        refuse_to_replace(status)
    end
    local ok, err = pcall(M.call, p, "POST", "/_engine/step_down", REPLACE_SECONDS)
    if not ok and err.status == 404 and status.sandboxes == 0 then
        M.call(p, "POST", "/_engine/stop", STOP_SECONDS) -- of before engines could step down
    elseif not ok and (err.status == 404 or err.status == 409) then
        refuse_to_replace(status, err)
    elseif not ok then
        error(err, 0)
    end
    await_end(p, function() end)
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

-- The state of an engine that may be used; of one of another build as the second
-- value. anyhow: that one will do.
local function running(p, anyhow)
    local status = M.info(p) and M.call(p, "GET", "/_engine/status", 10)
    if not status then
        return nil
    elseif status.stopping then
        await_end(p, function() end)
        return nil
    elseif status.build_id ~= paths.build_id() and not anyhow then
        return nil, status
    end
    return status
end

-- Who holds the start lock replaces and starts; the others wait.
local function found_or_started(p, anyhow)
    local status = running(p, anyhow)
    if status then
        return status
    end
    local other
    require("engine.places").check(p)
    local deadline = task.now() + START_SECONDS + REPLACE_SECONDS
    while true do
        local lock <close>, err = process.lock(p.start_lock)
        if err then
            error(err, 0)
        end
        status, other = running(p, anyhow)
        if status then
            return status
        end
        if lock and other then
            replace(p, other)
        end
        if lock then
            return start(p)
        end
        if task.now() > deadline then
            Error.raise("timeout", ("another process has been starting the engine for %d s")
                :format(START_SECONDS + REPLACE_SECONDS),
                { deadline = "request", remedy = "see " .. p.log })
        end
        task.sleep(0.02)
    end
end

---@return string boot_id of this boot of the machine
function M.boot_id()
    return Error.check(fs.read_file("/proc/sys/kernel/random/boot_id")):match("%S+")
end

---Sandboxes and build steps of an engine that has died, which the next one
---finds; more or less, as the dead one cannot be asked. A reboot leaves none.
---@param p engine.Paths
---@return integer
function M.orphans(p)
    local info, count = M.info(p), 0
    if info and info.boot_id and info.boot_id ~= M.boot_id() then
        return 0
    end
    for _, name in ipairs(fs.list(p.run) or {}) do
        count = count + (name:find("%.sock$") and 1 or 0)
    end
    return count
end

---Asks the running engine to end, also one that is only starting; kills its
---sandboxes, also those of an engine that has died.
---@param p engine.Paths
---@return boolean stopped false: none ran
function M.stop(p)
    local asked = false
    local function ask()
        asked = asked or M.call(p, "POST", "/_engine/stop", STOP_SECONDS) ~= nil
    end
    await_end(p, ask)
    if not asked and M.orphans(p) > 0 then
        found_or_started(p, true)
        await_end(p, ask)
    end
    return asked
end

---@class engine.Connection
---@field api_url string
---@field sandbox_url string
---@field api_key string
---@field domain string "e2b.localhost:<port>"

---Finds the embedded engine or starts it, and waits for the base image.
---@param opts? {progress: fun(text: string)|nil, home: string|nil, cache: string|nil,
--- anyhow: boolean|nil} anyhow: an engine of another build is not replaced
---@return engine.Connection
function M.ensure(opts)
    opts = opts or {}
    local p = paths.of(opts.home, opts.cache)
    local status = found_or_started(p, opts.anyhow)
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
