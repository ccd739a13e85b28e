-- Builds of templates: steps become layers, layers are kept by what made them.
-- Source: template reference, sections 4 and 5.
local Error = require "e2b.error"
local engine = require "e2b_engine"
local envd = require "engine.envd"
local fs = require "e2b_fs"
local gc = require "engine.gc"
local hash = require "e2b_hash"
local http = require "engine.http"
local json = require "e2b_json"
local layers_of = require "engine.layers"
local life = require "engine.life"
local log = require "engine.log"
local room = require "engine.room"
local start = require "engine.start"
local state = require "engine.state"
local steps = require "engine.steps"
local task = require "e2b_task"
local wire = require "e2b_wire"

local M = {}

local STEP_LIFE <const> = 3700 -- seconds; a command of a step has 3600
local MAX_LAYERS <const> = 118
local PAGE <const> = 100
local LEVELS = { debug = 1, info = 2, warn = 3, error = 4 }

local Builds = {}
Builds.__index = Builds

---@param E table
function M.new(E)
    return setmetatable({
        E = E,
        running = {}, -- build id -> build
        unseen = {}, -- ids of builds whose status nobody has asked for
        failed = {}, -- id -> reason, of builds whose end could not be written
        making = {}, -- layer key -> cond, broadcast once it is made
        count = 0,
    }, Builds)
end

-- ---- the log ----------------------------------------------------------------

local function add_entry(build, level, step, message)
    build.seq = build.seq + 1
    build.db:exec("INSERT INTO build_logs(build_id, seq, at, level, step, message)" ..
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6)", build.id, build.seq, state.now(), level, step,
        wire.utf8(message))
end

-- Cuts output into lines, each an entry; the rest comes with flush.
local function line_log(build, level, step, prefix)
    local rest = { stdout = "", stderr = "" }
    local function put(stream, line)
        line = line:match("^%s*(.-)%s*$")
        if line ~= "" then
            add_entry(build, level, step, ("%s[%s]: %s"):format(prefix, stream, line:sub(1, 8192)))
        end
    end
    local function write(stream, bytes)
        local text = rest[stream] .. bytes
        local from = 1
        while true do
            local at = text:find("[\r\n]", from)
            if not at then
                break
            end
            put(stream, text:sub(from, at - 1))
            from = at + 1
        end
        rest[stream] = text:sub(from)
        if #rest[stream] > 65536 then
            put(stream, rest[stream])
            rest[stream] = ""
        end
    end
    return write, function()
        put("stdout", rest.stdout)
        put("stderr", rest.stderr)
        rest = { stdout = "", stderr = "" }
    end
end

-- ---- layers -----------------------------------------------------------------

local function key_of(parent, step, context)
    return hash.sha256(json.encode {
        "layer 1", parent, step.type, json.array(step.args), step.files_hash or "",
        { user = context.user, workdir = context.workdir or "", env = context.env or {} },
    })
end

-- The layer of a key, or nil: a forced build made another one of the same key.
-- From here on nobody takes it from the build.
function Builds:cached(build, key)
    local id = self.E.state:get("layer:" .. key) or key
    build.lease:add(id)
    local meta = layers_of.meta(self.E.paths.cache, id)
    if meta and layers_of.fits(meta, build.content) then
        return id, meta
    end
    return nil
end

-- The layer of a key that another build is just making: waits for it.
function Builds:shared(build, key)
    local id, meta = self:cached(build, key)
    while not id and self.making[key] do
        self.making[key]:wait()
        id, meta = self:cached(build, key)
    end
    return id, meta
end

-- Runs fn(box) in a sandbox on the layers; its upper stays in dir.
function Builds:in_sandbox(build, layers, context, fn)
    local E = self.E
    local id = "b" .. state.random_id(20)
    local life_of = { started_at = state.now() }
    life.set_end(life_of, state.clocks(), STEP_LIFE)
    local dir = E.paths.cache .. "/tmp/" .. id
    room.check(E, E.paths.cache)
    build.lease:add("tmp/" .. id)
    local box = E.boxes:launch {
        id = id,
        kind = "step",
        layers = layers,
        dir = dir,
        token = wire.random(32),
        cpu_count = build.cpu_count,
        memory_mb = build.memory_mb,
        env = E.egress:step_env(),
        policy = E.egress:step_policy(),
        user = context.user,
        workdir = context.workdir,
        tmp_tmpfs = true,
        doc = { build = build.id },
        build_id = build.id,
        started_at = life_of.started_at,
        end_at = life_of.end_at,
        end_boot = life_of.end_boot,
    }
    local ok, err = pcall(fn, box)
    build.network_note = box.no_network or E.egress:note(id)
    if not ok then
        local usage = box.handle:usage()
        if usage and usage.oom_kills > 0 and Error.is(err) and
            not err.message:find("lack of memory", 1, true) then
            err.message = err.message ..
                (" (out of memory: the step has %d MiB)"):format(build.memory_mb)
        end
    end
    task.shield(E.boxes.discard, E.boxes, box, ok)
    if not ok then
        error(err, 0)
    end
    return dir
end

-- Runs fn; builds that need the same layer wait meanwhile.
function Builds:alone(key, fn, ...)
    if self.making[key] then -- a forced build does not wait
        return fn(...)
    end
    local cond = task.cond()
    self.making[key] = cond
    local ok, result = pcall(fn, ...)
    self.making[key] = nil
    cond:broadcast()
    if not ok then
        error(result, 0)
    end
    return result
end

-- Executes one step in a sandbox and seals what it wrote as a layer.
function Builds:make_layer(build, step, key, context)
    local E, parent, layers = self.E, build.top, build.layers
    local write, flush = line_log(build, "info", step.number, step.prefix)
    local dir = self:in_sandbox(build, layers, context, function(box)
        local function run(spec, mine)
            local result = envd.run(box.target, spec, function(stream, bytes)
                if not (mine and mine(stream, bytes)) then
                    write(stream, bytes)
                end
            end)
            flush()
            return result
        end
        steps.execute(step, context, run, box)
    end)
    local id, there = key, layers_of.meta(E.paths.cache, key)
    if there and (build.forced or not layers_of.fits(there, build.content)) then
        id = hash.sha256(key .. wire.random(16)) -- beside the one in use
        build.lease:add(id)
    end
    local ok, err = engine.layer_seal(E.paths.cache, dir, "u", id, json.encode {
        id = id,
        kind = "layer",
        parent = parent,
        parent_content = build.content,
        instruction = step.type,
        context = context,
        created_at = state.time(state.now()),
    })
    E.boxes.remove_dir(dir)
    Error.check(ok, err)
    table.insert(build.made, id)
    E.state:set("layer:" .. key, id)
    return id
end

-- ---- one build --------------------------------------------------------------

local function copy_context(context)
    local env = {}
    for name, value in pairs(context.env or {}) do
        env[name] = value
    end
    return { user = context.user, workdir = context.workdir, env = env }
end

local BASE_IMAGES = { ["e2bdev/base"] = true, ["e2bdev/base:latest"] = true, base = true }

function Builds:base_of(build)
    local spec = build.request
    if spec.fromTemplate then
        local ok, base = pcall(self.E.templates.resolve, self.E.templates, spec.fromTemplate)
        if not ok then
            Error.raise("build", http.is_failure(base) and base.message or tostring(base))
        end
        return base
    end
    if not BASE_IMAGES[spec.fromImage or ""] then
        Error.raise("build", ("the image %q cannot be had: the embedded engine has no registry" ..
            " of images yet; " ..
            "begin with from_base_image() or from_template()"):format(tostring(spec.fromImage)))
    end
    return self.E.templates:resolve("base")
end

-- Says why a step that was cached is run again.
function Builds:note_damage(build, key)
    local id = self.E.state:get("layer:" .. key) or key
    if engine.layer_was_damaged(self.E.paths.cache, id) then
        add_entry(build, "warn", build.at, ("layer %s was damaged and is set aside (the engine's" ..
            " log says how): it is made again"):format(id:sub(1, 12)))
    end
end

-- One instruction; returns the new top layer.
function Builds:step(build, number, raw, total)
    build.at = tostring(number)
    local step = steps.parse(raw)
    step.number = tostring(number)
    step.prefix = ("[builder %d/%d] "):format(number, total)
    step.archive = step.files_hash and self.E.paths.uploads .. "/" .. step.files_hash
    build.forced = build.forced or step.force
    local text = ("%s%s %s"):format(step.prefix, step.type, table.concat(step.args, " "))
    local key = key_of(build.top, step, build.context)
    if steps.is_context_only(step) then
        steps.execute(step, build.context)
        add_entry(build, "info", build.at, ("%s [%s]"):format(text, key:sub(1, 12)))
        return
    end
    local id, meta
    if not build.forced then
        id, meta = self:shared(build, key)
    end
    if id then
        add_entry(build, "info", build.at, ("CACHED %s [%s]"):format(text, key:sub(1, 12)))
        build.context = copy_context(meta.context)
    else
        add_entry(build, "info", build.at, ("%s [%s]"):format(text, key:sub(1, 12)))
        if step.archive and not fs.stat(step.archive) then
            Error.raise("build", ("the files of '%s' were never uploaded"):format(step.args[1]))
        end
        if #build.layers >= MAX_LAYERS then
            Error.raise("build", ("a template has at most %d layers: join commands in fewer steps")
                :format(MAX_LAYERS))
        end
        self:note_damage(build, key)
        local context = copy_context(build.context)
        id = self:alone(key, self.make_layer, self, build, step, key, context)
        build.context = context
        meta = layers_of.meta(self.E.paths.cache, id)
    end
    build.content = meta and meta.content
    build.top = id
    build.layers[#build.layers + 1] = id
end

local function start_record(build, base)
    local spec = build.request
    if not spec.startCmd and not spec.readyCmd then
        return base.start
    end
    return {
        cmd = spec.startCmd,
        ready = spec.readyCmd,
        user = build.context.user,
        workdir = build.context.workdir,
        env = steps.environment(build.context.env),
    }
end

-- The start command must work once before a template is called ready.
function Builds:finalize(build, base)
    build.at = "finalize"
    add_entry(build, "info", "finalize",
        ("[finalize] Finalizing template build [%s]"):format(build.top:sub(1, 12)))
    local record = start_record(build, base)
    build.start = record
    if not record then
        return
    end
    local proof = "ready:" .. hash.sha256(json.encode { build.top, record })
    if self.E.state:get(proof) and not build.forced then
        return
    end
    if record.cmd then
        add_entry(build, "info", "finalize", "Running start command: " .. record.cmd)
    end
    add_entry(build, "info", "finalize",
        "Waiting for template to be ready: " .. (record.ready or "sleep 20"))
    local logs = {
        start = { line_log(build, "info", "finalize", "[start] ") },
        ready = { line_log(build, "debug", "finalize", "[ready] ") },
    }
    local dir = self:in_sandbox(build, build.layers, build.context, function(box)
        start.at_build(box.target, record, function(which, stream, bytes)
            logs[which][1](stream, bytes)
        end, self.E.ready_seconds)
    end)
    logs.start[2]()
    self.E.boxes.remove_dir(dir)
    self.E.state:set(proof, "1")
    add_entry(build, "info", "finalize", "Template is ready")
end

function Builds:execute(build)
    local list = type(build.request.steps) == "table" and build.request.steps or {}
    add_entry(build, "info", nil, ("Building template %s/%s"):format(build.template_id, build.id))
    build.at = "base"
    build.lease = layers_of.lease(self.E.paths.cache, "build-" .. build.id)
    local base = self:base_of(build)
    local from = build.request.fromTemplate or build.request.fromImage
    add_entry(build, "info", "base",
        ("CACHED [base] FROM %s [%s]"):format(from, base.layer:sub(1, 12)))
    build.top, build.layers, build.content = base.layer, base.layers, base.content
    build.lease:add(table.unpack(base.layers))
    build.context = copy_context(base.context)
    for number, raw in ipairs(list) do
        self:step(build, number, raw, #list)
    end
    self:finalize(build, base)
end

local function reason_of(build, err)
    local message
    if Error.is(err, "cancelled") then
        return { message = "build was cancelled" .. (build.why and ": " .. build.why or "") }
    elseif Error.is(err, "build") then
        message = err.message
    else
        log.error("build %s, step %s: %s", build.id, tostring(build.at), tostring(err))
        message = Error.is(err) and room.explain(err)
            or "An internal error occurred; the engine's log has it."
    end
    if Error.is(err, "build") and build.network_note then
        message = message .. " (" .. build.network_note .. ")"
    end
    return { message = message, step = build.at }
end

function Builds:succeed(build)
    local db, now = build.db, state.now()
    add_entry(build, "info", nil,
        ("Build finished, took %.1fs"):format((now - build.began) / 1e6))
    layers_of.write_roots(self.E, build.top)
    db:transaction(function()
        db:exec("UPDATE builds SET status = 'ready', layer = ?2, context = ?3, start = ?4," ..
            " updated_at = ?5," ..
            " finished_at = ?5 WHERE id = ?1", build.id, build.top, json.encode(build.context),
            build.start and json.encode(build.start), now)
        self.E.templates:assign(build.template_id, build.id, build.tags)
    end)
    layers_of.write_roots(self.E)
end

-- What has failed is told also when it cannot be written.
function Builds:finish(build, ok, err)
    if ok then
        ok, err = pcall(self.succeed, self, build)
    end
    if ok then
        return
    end
    local reason = reason_of(build, err)
    pcall(add_entry, build, "error", reason.step, "Build failed: " .. reason.message)
    if not build.db:will("UPDATE builds SET status = 'error', reason = ?2, updated_at = ?3," ..
        " finished_at = ?3 WHERE id = ?1", build.id, json.encode(reason), state.now()) then
        self.failed[build.id] = reason
    end
end

-- ---- the calls --------------------------------------------------------------

function Builds:row(template_id, build_id)
    return self.E.state:row("SELECT * FROM builds WHERE id = ?1 AND template_id = ?2", build_id,
        template_id)
end

---Ends running builds.
---@param why string
---@param chosen fun(build: table): boolean
function Builds:cancel(why, chosen)
    local ending = {}
    for _, build in pairs(self.running) do
        if chosen(build) then
            ending[#ending + 1] = build
            build.why = why
            build.task:cancel()
        end
    end
    for _, build in ipairs(ending) do
        pcall(build.task.join, build.task, 30)
    end
end

local function share_a_tag(a, b)
    for _, tag in ipairs(a.tags) do
        for _, other in ipairs(b.tags) do
            if tag == other then
                return true
            end
        end
    end
    return false
end

-- A newer build takes the place of one that is under way; the same asked for
-- twice (two runs of a script side by side) is no newer one.
local function supersedes(new, old)
    return new.template_id == old.template_id and share_a_tag(new, old) and
        (new.text ~= old.text or new.forced or old.forced)
end

---POST /v2/templates/{id}/builds/{build}
function Builds:start(template_id, build_id, request)
    local row = self:row(template_id, build_id)
    if not row then
        http.fail(404, ("Build '%s' not found"):format(build_id))
    end
    self.E:check_staying()
    if row.status ~= "waiting" then
        http.fail(400, "build is not in waiting state")
    elseif (request.fromImage ~= nil) == (request.fromTemplate ~= nil) then
        http.fail(400, "exactly one of fromImage and fromTemplate is needed")
    end
    local build = {
        id = build_id,
        template_id = template_id,
        db = self.E.state,
        seq = 0,
        began = state.now(),
        cpu_count = row.cpu_count,
        memory_mb = row.memory_mb,
        tags = json.decode(row.spec).tags,
        request = request,
        made = {}, -- ids of new layers
        forced = request.force == true,
        text = json.encode { request, row.cpu_count, row.memory_mb },
    }
    self.E.state:exec("UPDATE builds SET status = 'building', updated_at = ?2 WHERE id = ?1",
        build_id, build.began)
    self:cancel("a newer build of the same template was started", function(old)
        return supersedes(build, old)
    end)
    self.unseen[build_id] = true -- clients expect to see it building once
    self.count = self.count + 1
    self.running[build_id] = build
    build.task = task.spawn_quiet(function()
        local ok, err = pcall(self.execute, self, build)
        task.shield(self.finish, self, build, ok, err)
        self.count = self.count - 1
        self.running[build_id] = nil
        if build.lease then
            build.lease:release()
        end
        if #build.made > 0 then
            layers_of.sync(self.E.paths.cache, build.made)
            gc.after_build(self.E)
        end
    end)
end

local function entry_of(row)
    return {
        timestamp = state.time(row.at),
        level = row.level,
        message = row.message,
        step = row.step,
    }
end

---GET /templates/{id}/builds/{build}/status
function Builds:status(template_id, build_id, offset, limit, level)
    local row = self:row(template_id, build_id)
    if not row then
        http.fail(400, ("Build '%s' not found"):format(build_id))
    end
    local failed = self.failed[build_id]
    local status = self.unseen[build_id] and "building" or failed and "error" or row.status
    self.unseen[build_id] = nil
    local min = LEVELS[level or "debug"]
    if not min then
        http.fail(400, ("validation error: level must be debug, info, warn or error, not %q")
            :format(level))
    end
    local entries = json.array {}
    for i, line in ipairs(self.E.state:rows("SELECT at, level, step, message FROM build_logs" ..
        " WHERE build_id = ?1 AND CASE level WHEN 'debug' THEN 1 WHEN 'info' THEN 2" ..
        " WHEN 'warn' THEN 3 ELSE 4 END >= ?2 ORDER BY seq LIMIT ?3 OFFSET ?4", build_id, min,
        math.min(limit, PAGE), offset)) do
        entries[i] = entry_of(line)
    end
    local reason = failed or row.reason and json.decode(row.reason)
    if reason then
        reason.logEntries = json.array {}
        for _, entry in ipairs(entries) do
            if entry.step == reason.step and LEVELS[entry.level] >= LEVELS.warn then
                table.insert(reason.logEntries, entry)
            end
        end
    end
    return {
        templateID = template_id,
        buildID = build_id,
        status = status,
        logs = json.array {},
        logEntries = entries,
        reason = status == "error" and reason or nil,
    }
end

---What an engine that died was building ends in an error.
function Builds:clean_up()
    self.E.state:exec("UPDATE builds SET status = 'error', reason = ?1, finished_at = ?2" ..
        " WHERE status = 'building'",
        json.encode { message = "the engine ended while it was building; build again: finished" ..
            " steps are kept" },
        state.now())
end

---Ends all running builds.
function Builds:end_all()
    self:cancel("the engine ends", function()
        return true
    end)
end

return M
