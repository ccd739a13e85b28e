-- Sandboxes: their records, lives and ends. Source: control plane reference,
-- section 5. A record is written before its process is made.
local Error = require "e2b.error"
local engine = require "e2b_engine"
local egress = require "engine.egress"
local envd = require "engine.envd"
local fs = require "e2b_fs"
local http = require "engine.http"
local json = require "e2b_json"
local life = require "engine.life"
local log = require "engine.log"
local logs = require "engine.logs"
local metrics = require "engine.metrics"
local room = require "engine.room"
local start = require "engine.start"
local state = require "engine.state"
local task = require "e2b_task"
local wire = require "e2b_wire"

local M = {}

M.ENVD_VERSION = "0.6.13"
local CLIENT_ID <const> = "e2blua00"
local MAX_SECONDS <const> = 30 * 24 * 3600
local PIDS <const> = 8192
local ENDED_KEPT <const> = 64

local HOSTS <const> = "127.0.0.1\tlocalhost\n" ..
    "::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\te2b\n"

local Boxes = {}
Boxes.__index = Boxes

---@param E table the engine: state, paths, proxy, boot_id
---@return table
function M.new(E)
    return setmetatable({ E = E, live = {}, starved = {}, count = 0, making = 0, keys = {},
        changed = task.cond(), logs = logs.new(E.state) }, Boxes)
end

-- ---- launching --------------------------------------------------------------

---Makes a sandbox's process on the given layers and initialises its envd.
---@param spec {id: string, kind: string, layers: string[], dir: string, token: string|nil,
--- cpu_count: integer, memory_mb: integer, disk_mb: integer|nil,
--- env: table, user: string, workdir: string|nil,
--- tmp_tmpfs: boolean|nil, policy: userdata, doc: table, template_id: string|nil,
--- build_id: string|nil, started_at: integer, end_at: integer, end_boot: integer}
---@return table box {id, handle, target, dir}
function Boxes:launch(spec)
    local E = self.E
    E.state:exec("INSERT INTO sandboxes(id, kind, state, template_id, build_id, started_at," ..
        " end_at, end_boot, boot_id, doc) VALUES(?1, ?2, 'starting', ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        spec.id, spec.kind, spec.template_id, spec.build_id, spec.started_at, spec.end_at,
        spec.end_boot, E.boot_id, json.encode(spec.doc))
    local box = {
        id = spec.id,
        dir = spec.dir,
        target = { socket = E.paths.run .. "/" .. spec.id .. ".sock", token = spec.token },
        ended = task.cond(),
    }
    local ok, err = pcall(self.launch_process, self, box, spec)
    if not ok then
        task.shield(self.discard, self, box) -- also when the engine is ending
        error(err, 0)
    end
    return box
end

function Boxes:group_of(id)
    return "e2blua/" .. self.E.home_hash .. "/" .. id
end

-- What the launcher sets in their place is no limit of the whole.
local function limits_note(missing)
    local note = "limits that this machine cannot give: " .. missing
    if missing:find "memory" or missing:find "pids" then
        note = note .. "; each process alone is held to the memory, each of its users to the" ..
            " number of processes"
    end
    return note
end

function Boxes:launch_process(box, spec)
    local E = self.E
    Error.check(fs.mkdirs(spec.dir, 448))
    box.handle = Error.check(engine.launch {
        id = spec.id,
        cache = E.paths.cache,
        dir = spec.dir,
        run_dir = E.paths.run,
        log = spec.dir .. "/envd.log",
        layers = spec.layers,
        hosts = HOSTS,
        resolv_conf = egress.RESOLV,
        cpu_count = spec.cpu_count,
        memory_bytes = spec.memory_mb << 20,
        pids = PIDS,
        disk_bytes = (spec.disk_mb or 0) << 20,
        disks = E.paths.disks,
        tmp_tmpfs = spec.tmp_tmpfs,
        cgroup = self:group_of(spec.id),
    })
    local info = box.handle:info()
    box.no_network = E.egress:add(spec.id, box.handle, spec.policy)
    if box.no_network then
        spec.doc.notes = spec.doc.notes or {}
        table.insert(spec.doc.notes, box.no_network)
    end
    if info.missing ~= "" then
        spec.doc.notes = spec.doc.notes or {}
        table.insert(spec.doc.notes, limits_note(info.missing))
    end
    if info.no_disk then
        spec.doc.notes = spec.doc.notes or {}
        table.insert(spec.doc.notes, ("no limit of %d MiB for the disk: %s"):format(spec.disk_mb,
            info.no_disk))
        spec.doc.disk_mb = nil
    end
    E.state:exec("UPDATE sandboxes SET pid = ?2, start_time = ?3, cgroup = ?4 WHERE id = ?1",
        spec.id, info.pid, info.start_time, info.cgroup)
    envd.init(box.target, { env = spec.env, user = spec.user, workdir = spec.workdir })
    envd.deadline(box.target, life.left(spec, state.clocks()))
end

---Ends what launch made and removes every trace.
---@param box table
---@param keep_dir? boolean the writable layer stays
function Boxes:discard(box, keep_dir)
    local E = self.E
    E.egress:remove(box.id)
    if box.handle then
        local ok, err = box.handle:kill()
        if not ok then
            log.error("sandbox %s does not end: %s", box.id, err.message)
        end
        box.handle:close()
    end
    os.remove(box.target.socket)
    engine.lease_forget(E.paths.cache, box.id)
    if not keep_dir then
        Boxes.remove_dir(box.dir)
    end
    E.state:will("DELETE FROM sandboxes WHERE id = ?1", box.id)
end

function Boxes.remove_dir(dir)
    local parent, name = dir:match("^(.*)/([^/]+)$")
    local ok, err = engine.remove_tree(parent, name)
    if not ok then
        log.error("cannot remove %s: %s", dir, err.message)
    end
end

-- ---- create -----------------------------------------------------------------

local function check_timeout(seconds, default)
    if seconds == nil then
        return default
    end
    if seconds < 0 then
        http.fail(400, ("validation error: timeout must be 0 or more, not %d"):format(seconds))
    end
    if seconds == 0 then
        http.fail(400, "Timeout must be greater than 0")
    end
    if seconds > MAX_SECONDS then
        http.fail(400, ("Timeout cannot be greater than %d hours"):format(MAX_SECONDS // 3600))
    end
    return seconds
end

local function check_map(doc, name)
    local map = http.field(doc, name, "table", {})
    for key, value in pairs(map) do
        if type(key) ~= "string" or type(value) ~= "string" then
            http.fail(400, ("validation error: %s must map strings to strings"):format(name))
        end
    end
    return map
end

-- What the engine cannot do yet is refused, never dropped in silence.
local function refuse_unsupported(doc)
    for _, name in ipairs { "autoPause", "autoResume", "volumeMounts", "iam" } do
        local v = doc[name]
        local asked = v ~= nil and v ~= json.null and v ~= false
        if type(v) == "table" then
            asked = next(v) ~= nil and v.enabled ~= false
        end
        if asked then
            http.fail(400, ("%s is not supported by the embedded engine yet"):format(name))
        end
    end
end

local function request_of(doc, v2)
    local want = {
        template = http.field(doc, "templateID", "string"),
        timeout = check_timeout(http.field(doc, "timeout", "integer"), v2 and 300 or 15),
        secure = v2 or http.field(doc, "secure", "boolean", false),
        internet = http.field(doc, "allow_internet_access", "boolean"),
        metadata = check_map(doc, "metadata"),
        env = check_map(doc, "envVars"),
        network = http.field(doc, "network", "table"),
    }
    if not want.template then
        http.fail(400, "validation error: templateID is required")
    end
    refuse_unsupported(doc)
    want.policy = egress.policy(want.internet, want.network)
    return want
end

---What create and connect answer.
---@param record table
---@return table
function Boxes:answer(record)
    return {
        templateID = record.template_id,
        sandboxID = record.id,
        alias = record.doc.alias,
        clientID = CLIENT_ID,
        envdVersion = M.ENVD_VERSION,
        envdAccessToken = record.target.token,
        trafficAccessToken = record.doc.traffic_token or json.null,
        domain = self.E.domain,
    }
end

local function new_record(build, want, note)
    local clocks = state.clocks()
    local record = {
        id = "i" .. state.random_id(20),
        template_id = build.template_id,
        build_id = build.id,
        started_at = clocks.wall,
        cpu_count = build.cpu_count,
        memory_mb = build.memory_mb,
        state = "starting",
        doc = {
            alias = build.alias,
            metadata = want.metadata,
            internet = want.internet,
            network = want.network,
            policy = { internet = want.internet },
            size = { cpu_count = build.cpu_count, memory_mb = build.memory_mb },
            notes = { note },
            token = want.secure and wire.random(32) or nil,
            disk_mb = build.disk_mb,
        },
    }
    life.set_end(record, clocks, want.timeout)
    metrics.begin(record)
    return record
end

---POST /sandboxes and /v2/sandboxes.
---@param doc table the request
---@param v2 boolean
---@param once? table kept with the sandbox, see engine.once
---@return table answer
function Boxes:create(doc, v2, once)
    self.E:check_staying()
    local want = request_of(doc, v2)
    self.making = self.making + 1
    local ok, answer = pcall(self.make, self, want, once)
    self.making = self.making - 1
    self.changed:broadcast()
    if not ok then
        error(answer, 0)
    end
    return answer
end

function Boxes:make(want, once)
    local E = self.E
    room.check(E, E.paths.boxes)
    local build = E.templates:resolve(want.template)
    local record = new_record(build, want, self.E.note)
    local id = record.id
    record.doc.once = once
    local env = {}
    for _, from in ipairs { E.egress:sandbox_env(), want.env } do
        for name, value in pairs(from) do
            env[name] = value
        end
    end
    env.E2B_SANDBOX, env.E2B_SANDBOX_ID, env.E2B_TEMPLATE_ID = "true", id, build.template_id
    local box = self:launch {
        id = id,
        kind = "sandbox",
        layers = build.layers,
        dir = E.paths.boxes .. "/" .. id,
        token = record.doc.token,
        cpu_count = build.cpu_count,
        memory_mb = build.memory_mb,
        disk_mb = build.disk_mb,
        env = env,
        user = build.context.user,
        workdir = build.context.workdir,
        policy = want.policy,
        doc = record.doc,
        template_id = build.template_id,
        build_id = build.id,
        started_at = record.started_at,
        end_at = record.end_at,
        end_boot = record.end_boot,
    }
    for name, value in pairs(box) do
        record[name] = value
    end
    return self:open(record, build, want)
end

---The sandbox becomes one that calls find.
---@param record table
function Boxes:enter(record)
    self.live[record.id] = record
    self.count = self.count + 1
    self.E.proxy:add {
        id = record.id,
        socket = record.id .. ".sock",
        access_token = record.target.token,
    }
    task.spawn_quiet(self.watch, self, record)
end

-- The new sandbox becomes visible, and its start command ready.
function Boxes:open(record, build, want)
    local E = self.E
    self:enter(record)
    self:note(record, "info", "the sandbox starts", { template = want.template })
    if build.start and build.start.cmd then
        local ok, err = pcall(start.at_create, record.target, build.start)
        if not ok and record.state == "starting" then
            local text = Error.is(err) and err.message or tostring(err)
            self:note(record, "error", text)
            self:end_it(record)
            http.fail(500, text, "sandbox_create_failed")
        end
    end
    if record.state ~= "starting" then
        http.fail(500, "the sandbox ended while it was being created", "sandbox_create_failed")
    end
    record.state = "running"
    local clocks = state.clocks()
    record.started_at = clocks.wall
    life.set_end(record, clocks, want.timeout)
    -- From here on the next engine would take it over.
    E.state:exec("UPDATE sandboxes SET state = 'running', doc = ?2 WHERE id = ?1", record.id,
        json.encode(record.doc))
    self:save_end(record)
    E.templates:spawned(build.template_id)
    log.info("sandbox %s created from %s, ends in %d s", record.id, want.template, want.timeout)
    self:note(record, "info", ("the sandbox is ready and ends in %d s"):format(want.timeout))
    for _, text in ipairs(record.doc.notes) do
        self:note(record, "warn", text)
    end
    task.spawn_quiet(metrics.sample, record)
    return self:answer(record)
end

-- Commands are killed for memory before envd is. A count that had been seen before it ended is not
-- why it ended.
local function starved(record, how)
    local usage = (how == "signal 9" or how == "ended") and record.handle:usage()
    if usage and usage.oom_kills > record.oom_seen then
        return ("ran out of memory (it had %d MiB)"):format(record.memory_mb)
    end
end

-- Waits for the process: envd may be killed from outside, or for memory.
function Boxes:watch(record)
    local how = record.handle:wait()
    if record.state ~= "killing" then
        record.starved = starved(record, how)
        local why = tostring(how) .. (record.starved and ", it " .. record.starved or "")
        log.warn("sandbox %s ended by itself (%s)", record.id, why)
        self:note(record, "error", ("the sandbox ended by itself (%s)"):format(why))
        self:end_it(record)
    end
end

-- ---- end --------------------------------------------------------------------

---Ends a live sandbox; concurrent calls wait for the same end.
---@param record table
function Boxes:end_it(record)
    if record.state == "killing" then
        while not record.gone do
            if not record.ended:wait(30) then
                http.fail(500, "the sandbox does not end")
            end
        end
        return
    end
    record.state = "killing"
    self.E.state:will("UPDATE sandboxes SET state = 'killing' WHERE id = ?1", record.id)
    task.shield(function()
        self.E.proxy:remove(record.id, record.starved)
        self:remember(record)
        self:discard(record)
        self.live[record.id] = nil
        self.count = self.count - 1
        self:note(record, "info", "the sandbox has ended")
        self.logs:close(record.id)
        record.gone = true
        record.ended:broadcast()
        self.changed:broadcast()
        log.info("sandbox %s is gone", record.id)
    end)
end

---Leaves all to the next engine.
function Boxes:let_go()
    for id in pairs(self.live) do
        self.E.proxy:remove(id)
        self.E.egress:remove(id)
    end
end

-- Of one that ran out of memory the next calls say so.
function Boxes:remember(record)
    if record.starved then
        self.starved[record.id] = record.starved
        table.insert(self.starved, record.id)
        if #self.starved > ENDED_KEPT then
            self.starved[table.remove(self.starved, 1)] = nil
        end
    end
end

---Kills all, side by side.
function Boxes:end_all()
    local tasks = {}
    for _, record in pairs(self.live) do
        tasks[#tasks + 1] = task.spawn_quiet(self.end_it, self, record)
    end
    for _, t in ipairs(tasks) do
        pcall(t.join, t, 30)
    end
end

---The task that ends sandboxes at their time.
function Boxes:reap()
    while true do
        self.E.state:retry()
        local clocks, wait = state.clocks(), 60
        for _, record in pairs(self.live) do
            if record.state == "running" then
                local left = life.left(record, clocks)
                if left <= 0 then
                    log.info("sandbox %s has reached its end", record.id)
                    self:note(record, "warn", "the sandbox has reached its timeout")
                    task.spawn_quiet(self.end_it, self, record)
                else
                    wait = math.min(wait, left)
                end
            end
        end
        -- At most a minute: the machine may sleep meanwhile.
        self.changed:wait(wait)
    end
end

-- ---- the other calls --------------------------------------------------------

---The live sandbox of an id, or 404.
---@param id string
---@return table record
function Boxes:find(id)
    local plain, suffix = id:match("^([a-z0-9]+)(%-?[^-]*)$")
    if not plain or suffix == "-" then
        http.fail(400, "Invalid sandbox ID")
    end
    local record = self.live[plain]
    local starved_how = self.starved[plain] or record and record.starved
    if starved_how then
        http.fail(404, ("Sandbox %q is not running: it %s"):format(plain, starved_how),
            "sandbox_out_of_memory")
    elseif not record or record.state == "killing" then
        http.fail(404, ("Sandbox %q doesn't exist or you don't have access to it"):format(plain))
    end
    return record
end

function Boxes:save_end(record)
    self.E.state:will("UPDATE sandboxes SET end_at = ?2, end_boot = ?3, started_at = ?4" ..
        " WHERE id = ?1", record.id, record.end_at, record.end_boot, record.started_at)
    self.changed:broadcast()
    Boxes.tell_end(record)
end

---Tells envd when to end by itself, should there be no engine.
---@param record table
function Boxes.tell_end(record)
    local ok, err = pcall(envd.deadline, record.target, life.left(record, state.clocks()))
    if not ok then
        log.warn("sandbox %s: its envd was not told its end: %s", record.id, tostring(err))
    end
end

---Notes what the sandbox lacks, once, for its info.
---@param record table
---@param text string
function Boxes:lack(record, text)
    for _, note in ipairs(record.doc.notes) do
        if note == text then
            return
        end
    end
    table.insert(record.doc.notes, text)
    log.warn("sandbox %s: %s", record.id, text)
    self:note(record, "warn", text)
end

---Adds a line to a sandbox's own log, which its owner can read.
---@param record table
---@param level "debug"|"info"|"warn"|"error"
---@param message string
---@param fields? table<string, string>
function Boxes:note(record, level, message, fields)
    self.logs:add(record.id, level, message, fields)
end

---What the way out has to say of a sandbox or a build step.
---@param id string
---@param text string
function Boxes:on_egress(id, text)
    log.warn("sandbox %s: %s", id, text)
    if self.live[id] then
        self:note(self.live[id], "warn", text)
    end
end

---A name that a sandbox has been given the synthetic address of, for the next
---engine. No engine takes build steps over.
---@param id string
---@param slot integer
---@param number integer
---@param name string
function Boxes:on_name(id, slot, number, name)
    if id:sub(1, 1) == "i" then
        self.E.state:exec("INSERT OR REPLACE INTO names(sandbox_id, slot, number, name)" ..
            " VALUES(?1, ?2, ?3, ?4)", id, slot, number, name)
    end
end

---GET /sandboxes/{id}/metrics
---@param id string
---@param from? integer seconds since 1970
---@param to? integer
---@return table[] answer
function Boxes:metrics(id, from, to)
    return metrics.of(self:find(id), from, to)
end

---DELETE /sandboxes/{id}
function Boxes:kill(id)
    local plain = id:match("^[a-z0-9]+")
    local record = plain and self.live[plain] or self:find(id)
    self:end_it(record)
end

---POST /sandboxes/{id}/timeout
function Boxes:set_timeout(id, seconds)
    if seconds < 0 then
        http.fail(400, ("validation error: timeout must be 0 or more, not %d"):format(seconds))
    end
    local record = self:find(id)
    life.set_end(record, state.clocks(), math.min(seconds, MAX_SECONDS))
    self:save_end(record)
end

---POST /sandboxes/{id}/connect: extends the life, never shortens it.
function Boxes:connect(id, seconds, v2)
    if v2 then
        seconds = check_timeout(seconds, 300)
    elseif seconds and seconds < 0 or seconds and seconds > MAX_SECONDS then
        check_timeout(seconds)
    elseif not seconds then
        http.fail(400, "validation error: timeout is required")
    end
    local record = self:find(id)
    local clocks = state.clocks()
    if seconds > life.left(record, clocks) then
        life.set_end(record, clocks, seconds)
        self:save_end(record)
    end
    return self:answer(record)
end

---PUT /sandboxes/{id}/network: replaces the lists, for new connections.
---@param id string
---@param doc table the request
function Boxes:set_network(id, doc)
    local internet = http.field(doc, "allow_internet_access", "boolean")
    local policy = egress.policy(internet, doc)
    local record = self:find(id)
    local kept = record.doc.network or {}
    record.doc.network = {
        allowOut = doc.allowOut,
        denyOut = doc.denyOut,
        rules = doc.rules,
        dnsServers = doc.dnsServers,
        allowPublicTraffic = kept.allowPublicTraffic,
        maskRequestHost = kept.maskRequestHost,
        httpsPorts = kept.httpsPorts,
    }
    -- As E2B has it: left out, it lifts the block now and is still shown.
    if internet ~= nil then
        record.doc.internet = internet
    end
    record.doc.policy = { internet = internet }
    self.E.egress:set(record.id, policy)
    self.E.state:exec("UPDATE sandboxes SET doc = ?2 WHERE id = ?1", record.id,
        json.encode(record.doc))
end

local function listed(record)
    return {
        templateID = record.template_id,
        sandboxID = record.id,
        clientID = CLIENT_ID,
        alias = record.doc.alias,
        startedAt = state.time(record.started_at),
        endAt = state.time(life.shown_end(record, state.clocks())),
        cpuCount = record.cpu_count,
        memoryMB = record.memory_mb,
        diskSizeMB = record.doc.disk_mb or 0,
        state = "running",
        envdVersion = M.ENVD_VERSION,
        metadata = record.doc.metadata,
    }
end

---GET /sandboxes/{id}
function Boxes:detail(id)
    local record = self:find(id)
    local doc = listed(record)
    doc.envdAccessToken = record.target.token
    doc.allowInternetAccess = record.doc.internet
    if record.doc.internet == nil then
        doc.allowInternetAccess = json.null
    end
    doc.domain = self.E.domain
    doc.network = record.doc.network
    doc.lifecycle = { autoResume = false, onTimeout = "kill" }
    doc.notes = json.array { table.unpack(record.doc.notes) }
    doc.notes[#doc.notes + 1] = self.E.egress:note(record.id)
    return doc
end

---Live sandboxes that fit, newest first.
---@param fits fun(record: table): boolean
---@return table[] records
function Boxes:select(fits)
    local out = {}
    for _, record in pairs(self.live) do
        if record.state == "running" and fits(record) then
            out[#out + 1] = record
        end
    end
    table.sort(out, function(a, b)
        if a.started_at ~= b.started_at then
            return a.started_at > b.started_at
        end
        return a.id < b.id
    end)
    return out
end

M.listed = listed

return M
