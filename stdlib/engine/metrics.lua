-- What sandboxes use: sampled from their cgroup and from envd, kept for an
-- hour. Source: control plane reference, section 5.14.
local Error = require "e2b.error"
local envd = require "engine.envd"
local http = require "engine.http"
local json = require "e2b_json"
local log = require "engine.log"
local state = require "engine.state"
local task = require "e2b_task"

local M = {}

local INTERVAL <const> = 5
local ENVD_SECONDS <const> = 3
local KEPT <const> = 3600 // INTERVAL
local LEAST_CPU <const> = 0.01 -- clients take 0 for "not measured"
local MAX_IDS <const> = 100

local function wire_metric(m)
    return {
        timestamp = state.time(m.at),
        timestampUnix = m.at // 1000000,
        cpuCount = m.cpu_count,
        cpuUsedPct = m.cpu_used_pct,
        memUsed = m.mem_used,
        memTotal = m.mem_total,
        memCache = m.mem_cache,
        diskUsed = m.disk_used,
        diskTotal = m.disk_total,
    }
end

-- Percent of the sandbox's processors since the reading before.
local function processor(record, usage, now)
    local before = record.usage
    local ns = usage.cpu_ns - before.cpu_ns
    local span = (now - before.at) * 1000 * record.cpu_count
    return span > 0 and math.min(100, 100 * math.max(0, ns) / span) or 0
end

-- Use and limit are those of the cgroup where the machine counts them, else both
-- the whole machine's, which envd sees.
local function merge(record, seen, usage, now)
    local m = {
        at = now,
        cpu_count = record.cpu_count,
        cpu_used_pct = seen.cpu_used_pct or 0,
        mem_used = seen.mem_used or 0,
        mem_total = seen.mem_total or record.memory_mb << 20,
        mem_cache = seen.mem_cache or 0,
        disk_used = seen.disk_used or 0,
        disk_total = seen.disk_total or 0,
    }
    if record.doc.disk_mb and m.disk_total > 0 then
        local free = m.disk_total - m.disk_used
        m.disk_total = record.doc.disk_mb << 20
        m.disk_used = math.max(m.disk_total - free, 4096)
    end
    if usage and usage.cpu_ns > 0 then
        m.cpu_used_pct = processor(record, usage, now)
        record.usage = { cpu_ns = usage.cpu_ns, at = now }
    end
    if usage and usage.memory_bytes > 0 then
        m.mem_total = record.memory_mb << 20
        m.mem_cache = usage.memory_cache_bytes
        m.mem_used = math.max(usage.memory_bytes - m.mem_cache, 4096)
    end
    m.cpu_used_pct = math.max(LEAST_CPU, math.floor(m.cpu_used_pct * 100 + 0.5) / 100)
    return m
end

-- What envd says, or, of one too busy to answer, the disk as it was before.
local function ask(record)
    local ok, seen = pcall(envd.get, record.target, "/metrics", { timeout = ENVD_SECONDS })
    if ok then
        return seen
    end
    local last = record.metrics[#record.metrics]
    if not last or not Error.is(seen, "timeout") then
        error(seen, 0)
    end
    return { disk_used = last.disk_used, disk_total = last.disk_total }
end

local function sample(record)
    local seen = ask(record)
    local now = state.now()
    local usage = record.handle:usage()
    record.oom_seen = usage and usage.oom_kills or 0
    local metrics = record.metrics
    metrics[#metrics + 1] = merge(record, seen, usage, now)
    if #metrics > KEPT then
        table.remove(metrics, 1)
    end
end

---What a record needs to be measured.
---@param record table
function M.begin(record)
    record.metrics = {}
    record.measured = task.cond()
    record.oom_seen = 0
    record.usage = { cpu_ns = 0, at = state.now() }
end

---Takes one measurement of a sandbox, or waits for the one that is under way.
---@param record table
function M.sample(record)
    if record.sampling then
        record.measured:wait(INTERVAL)
        return
    end
    record.sampling = true
    local ok, err = pcall(sample, record)
    record.sampling = false
    record.measured:broadcast()
    if not ok and Error.is(err, "cancelled") then
        error(err, 0)
    elseif not ok and record.state == "running" then
        log.debug("sandbox %s: no metrics: %s", record.id, tostring(err))
    end
end

---The task that measures every running sandbox.
---@param boxes table
function M.watch(boxes)
    while true do
        for _, record in pairs(boxes.live) do
            if record.state == "running" and not record.sampling then
                task.spawn_quiet(M.sample, record)
            end
        end
        task.sleep(INTERVAL)
    end
end

---GET /sandboxes/{id}/metrics. The first answer waits for a measurement.
---@param record table
---@param from? integer seconds since 1970, default its start
---@param to? integer default now
---@return table[] answer
function M.of(record, from, to)
    if from and to and from > to then
        http.fail(400, "Invalid time range for metrics")
    end
    if #record.metrics == 0 then
        M.sample(record)
    end
    local out = json.array {}
    for _, m in ipairs(record.metrics) do
        local at = m.at // 1000000
        if at >= (from or 0) and at <= (to or at) then
            out[#out + 1] = wire_metric(m)
        end
    end
    return out
end

---GET /sandboxes/metrics: the last value of each.
---@param boxes table
---@param ids string joined by commas
---@return table answer
function M.last_of(boxes, ids)
    local out, count = {}, 0
    for _ in ids:gmatch("[^,]+") do
        count = count + 1
    end
    if count == 0 then
        http.fail(400, "validation error: sandbox_ids is required")
    elseif count > MAX_IDS then
        http.fail(400, ("Too many sandbox IDs, at most %d"):format(MAX_IDS))
    end
    for id in ids:gmatch("[^,]+") do
        local record = boxes.live[id]
        if record and record.state == "running" then
            local all = M.of(record)
            out[id] = all[#all]
        end
    end
    return { sandboxes = out }
end

return M
