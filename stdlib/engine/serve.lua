-- The daemon: `e2blua engine serve HOME CACHE`, started by engine.client.
local Error = require "e2b.error"
local adopt = require "engine.adopt"
local builds = require "engine.builds"
local client = require "engine.client"
local egress = require "engine.egress"
local engine = require "e2b_engine"
local fs = require "e2b_fs"
local gc = require "engine.gc"
local hash = require "e2b_hash"
local http = require "engine.http"
local httpd = require "e2b_httpd"
local json = require "e2b_json"
local log = require "engine.log"
local metrics = require "engine.metrics"
local paths = require "engine.paths"
local places = require "engine.places"
local process = require "e2b_process"
local rootless = require "engine.rootless"
local routes = require "engine.routes"
local sandboxes = require "engine.sandboxes"
local start = require "engine.start"
local state = require "engine.state"
local task = require "e2b_task"
local templates = require "engine.templates"
local uploads = require "engine.uploads"
local wire = require "e2b_wire"

local M = {}

local FIRST_PORT <const> = 7280
local PORTS <const> = 100
local IDLE_SECONDS <const> = 300
-- The client that started an engine comes within this time, however short the
-- engine's idle time is; an idle time of 0 only cleans up.
local FIRST_CALL_SECONDS <const> = 5
local DRAIN_SECONDS <const> = 1
local LEAVE_SECONDS <const> = 60 -- a create takes at most 50

local Engine = {}
Engine.__index = Engine

---What the client's verbs show.
function Engine:status()
    return {
        build_id = self.build_id,
        pid = process.pid(),
        port = self.port,
        sandboxes = self.boxes.count,
        builds = self.builds.count,
        home = self.paths.home,
        cache = self.paths.cache,
        uptime = task.now() - self.began,
        image = self.image,
        grade = self.grade,
        note = self.note,
        notice = self.notice,
        stopping = self.stopping or false,
    }
end

---Asks the main task to end the engine.
function Engine:stop()
    self.stopping = true
    self.wake:broadcast()
end

---Ends the engine, not its sandboxes: the next one takes them over. Waits for
---creates that are under way. A build cannot be handed over: with one running
---this is refused.
function Engine:step_down()
    local boxes, deadline = self.boxes, task.now() + LEAVE_SECONDS
    self.leaving = true -- no create or build begins from here on
    while boxes.making > 0 and self.builds.count == 0 and task.now() < deadline do
        boxes.changed:wait(deadline - task.now())
    end
    if boxes.making > 0 or self.builds.count > 0 then
        self.leaving = nil
        http.fail(409, ("%d builds and %d creates are under way"):format(self.builds.count,
            boxes.making))
    end
    log.info("another build of e2blua takes over %d sandboxes", boxes.count)
    self.keeping = true
    self:stop()
end

---Raises what a create or a build is answered while the engine steps down.
function Engine:check_staying()
    if self.leaving then
        http.fail(503, "the engine is handing over to another build of e2blua; try again")
    end
end

-- Ports to try: the clients of an engine that died know its own. E2BLUA_PORT=0:
-- any (tests).
local function ports(E)
    local list, first = { E.earlier and math.tointeger(E.earlier.port) }, E.first_port
    for port = first, first == 0 and 0 or first + PORTS do
        list[#list + 1] = port
    end
    return list
end

-- One port for IPv4 and IPv6, the next one when it is taken.
local function listen(E, router)
    local handler = http.handler(router, E.key, function()
        E.called = task.now()
    end)
    for _, port in ipairs(ports(E)) do
        local server, err = httpd.listen { host = "127.0.0.1", port = port, handler = handler,
            filter = E.proxy:filter() }
        if server then
            E.port = server.port
            local _, v6 = server:add { host = "::1", port = server.port }
            if v6 then
                log.info("no IPv6 loopback: %s", v6.message)
            end
            return server
        end
        if err.kind ~= "network" and err.errno ~= 98 then
            error(err, 0)
        end
    end
    Error.raise("network", ("no free port from %d to %d"):format(E.first_port,
        E.first_port + PORTS))
end

local function make_folders(p)
    for _, dir in ipairs { p.home, p.cache, p.cache .. "/tmp", p.cache .. "/roots", p.run, p.boxes,
        p.uploads } do
        Error.check(fs.mkdirs(dir, 448))
    end
end

-- The key stays the same for a home, so that clients keep theirs.
local function key_of(E)
    local key = E.state:get("api_key")
    if not key then
        key = E.earlier and E.earlier.api_key or "e2b_" .. wire.random(20)
        E.state:set("api_key", key)
    end
    return key
end

-- Makes the base image or finds it; creates answer 503 until then.
local function make_image(E)
    local maker = engine.image_maker()
    local _ <close> = setmetatable({}, { __close = function() -- when the engine ends first
        maker:stop()
    end })
    local watcher = task.spawn_quiet(function()
        while true do
            E.image.stage, E.image.percent = maker:progress()
            task.sleep(0.2)
        end
    end)
    local id, err = maker:run(E.paths.cache)
    watcher:cancel()
    if not id then
        E.image = { state = "failed", message = err.message, percent = -1, stage = "failed" }
        log.error("base image: %s", err.message)
        return
    end
    E.templates:set_base(id)
    E.image = { state = "ready", id = id, percent = 100, stage = "ready" }
    log.info("base image %s is ready", id:sub(1, 12))
end

---The base image was lost: it is made again, and creates answer 503 meanwhile.
function Engine:lost_image()
    if self.image.state ~= "making" then
        self.image = { state = "making", stage = "starting", percent = -1 }
        log.warn("the base image is lost: it is made again")
        self.image_maker = task.spawn_quiet(make_image, self)
    end
end

local function write_info(E)
    Error.check(fs.write_file(E.paths.info, json.encode {
        pid = process.pid(),
        port = E.port,
        api_key = E.key,
        domain = E.domain,
        build_id = E.build_id,
        boot_id = E.boot_id,
    }, 384))
end

local function await_end(E)
    while not E.stopping do
        local idle = task.now() - E.called
        local busy = E.boxes.count > 0 or E.builds.count > 0 or E.image.state == "making"
        if not busy and idle >= E.idle then
            log.info("nothing to do for %g s: the engine ends", E.idle)
            return
        end
        E.wake:wait(busy and 5 or math.max(0.05, E.idle - idle))
    end
end

local function setting(env, name, default, max)
    local text = env[name]
    if not text or text == "" then
        return default
    end
    local n = tonumber(text)
    if not n or n < 0 or n > max then
        Error.raise("invalid_argument", ("%s must be a number from 0 to %g, not %q")
            :format(name, max, text))
    end
    return n
end

local function open(p)
    local E = setmetatable({
        paths = p,
        build_id = paths.build_id(),
        boot_id = client.boot_id(),
        home_hash = hash.sha256(p.home):sub(1, 12),
        began = task.now(),
        called = task.now(),
        wake = task.cond(),
        image = { state = "making", stage = "starting", percent = -1 },
    }, Engine)
    local env = fs.environ()
    E.idle = setting(env, "E2BLUA_IDLE", IDLE_SECONDS, math.huge)
    E.called = E.idle == 0 and E.called
        or E.called + math.max(0, FIRST_CALL_SECONDS - E.idle)
    E.ready_seconds = setting(env, "E2BLUA_READY_SECONDS", start.BUILD_SECONDS, math.huge)
    E.disk_mb = math.tointeger(setting(env, "E2BLUA_DISK_MB", 0, 1 << 24))
    if not E.disk_mb or E.disk_mb > 0 and E.disk_mb < 16 then
        Error.raise("invalid_argument", ("E2BLUA_DISK_MB must be 0 or whole MiB from 16, not %s")
            :format(env.E2BLUA_DISK_MB))
    end
    E.first_port = math.tointeger(setting(env, "E2BLUA_PORT", FIRST_PORT, 65535)) or FIRST_PORT
    E.cache_max = gc.limit()
    E.earlier = client.info(p) -- of an engine that has died or stepped down
    E.state, E.notice = state.open(p.db)
    if E.notice then
        log.warn("%s", E.notice)
    end
    E.key = key_of(E)
    E.proxy = Error.check(engine.proxy(p.run))
    E.egress = egress.new(function(id, text)
        E.boxes:on_egress(id, text)
    end, function(...)
        E.boxes:on_name(...)
    end)
    E.boxes = sandboxes.new(E)
    E.templates = templates.new(E)
    E.builds = builds.new(E)
    E.uploads = uploads.new(E)
    return E
end

-- Who comes now waits for the next engine; what is being answered is finished,
-- but for streams that last.
local function drain(E, server)
    local deadline = task.now() + DRAIN_SECONDS
    server:drain()
    while (server:connections() > 0 or E.proxy:open() > 0) and task.now() < deadline do
        task.sleep(0.01)
    end
    E.boxes:let_go()
end

local function close(E, server)
    if E.keeping then
        drain(E, server)
    else
        E.builds:end_all()
        E.boxes:end_all()
        os.remove(E.paths.info)
    end
    server:close()
    os.remove(E.paths.socket)
    E.state:close()
    log.info("the engine has ended")
end

-- A client that looks whether an engine is there holds the lock for a moment.
local function lock_home(p)
    for _ = 1, 50 do
        local lock, err = process.lock(p.lock)
        if lock then
            return lock
        elseif err then
            error(err, 0)
        end
        task.sleep(0.02)
    end
    Error.raise("unsupported", "another engine runs in " .. p.home)
end

---Runs the engine of this home until it is asked to end or idle.
---@param home string
---@param cache string
function M.run(home, cache)
    local p = paths.of(home, cache)
    -- Before anything that may start a thread; with the lock, since it reads the
    -- state. What is wrong with the home is said below.
    local early = fs.stat(p.home) and select(2, pcall(lock_home, p))
    local grade, reason = rootless.enter(p)
    make_folders(p)
    places.check(p)
    local _ <close> = type(early) == "userdata" and early or lock_home(p)
    local E = open(p)
    E.grade, E.note = grade, rootless.note(grade, reason)
    local ready = engine.image_ready(p.cache)
    if ready then
        E.templates:set_base(ready)
        E.image = { state = "ready", id = ready, percent = 100, stage = "ready" }
    end
    local adopted, removed = adopt.take_over(E.boxes)
    if #adopted + removed > 0 then
        log.info("took over %d sandboxes of an earlier engine, removed %d", #adopted, removed)
    end
    E.builds:clean_up()
    E.uploads:clean_up()
    E.domain = "e2b.localhost"
    local server = listen(E, routes.new(E))
    E.domain = "e2b.localhost:" .. E.port
    -- Clients take an answer on the unix socket for a sign that the rest is there.
    write_info(E)
    Error.check(server:add { unix = E.paths.socket })
    adopt.reach_all(E.boxes, adopted)
    log.info("engine %s serves on port %d, home %s", E.build_id, E.port, home)
    if E.note then
        log.warn("%s", E.note)
    end
    E.image_maker = not ready and task.spawn_quiet(make_image, E)
    local reaper = task.spawn_quiet(E.boxes.reap, E.boxes)
    local meter = task.spawn_quiet(metrics.watch, E.boxes)
    local ok, failure = pcall(await_end, E)
    E.stopping = true
    task.shield(close, E, server)
    reaper:cancel()
    meter:cancel()
    if E.image_maker then
        E.image_maker:cancel()
    end
    if not ok and not Error.is(failure, "interrupted") then
        error(failure, 0)
    end
end

return M
