-- What an engine does with the sandboxes of an earlier one that has died or
-- stepped down: the living go on, what is half made or over is removed.
local Error = require "e2b.error"
local egress = require "engine.egress"
local engine = require "e2b_engine"
local json = require "e2b_json"
local life = require "engine.life"
local log = require "engine.log"
local metrics = require "engine.metrics"
local once = require "engine.once"
local state = require "engine.state"
local strays = require "engine.strays"
local task = require "e2b_task"

local M = {}

-- An envd that is starved of its processor answers late.
local FETCH_SECONDS <const> = { 2, 10, 30 }
local REMOVE_SECONDS <const> = 30

-- ---- what goes on -----------------------------------------------------------

local function record_of(boxes, row, handle)
    local doc = json.decode(row.doc)
    local record = {
        id = row.id,
        template_id = row.template_id,
        build_id = row.build_id,
        started_at = row.started_at,
        end_at = row.end_at,
        end_boot = row.end_boot,
        cpu_count = doc.size.cpu_count,
        memory_mb = doc.size.memory_mb,
        state = "running",
        doc = doc,
        dir = boxes.E.paths.boxes .. "/" .. row.id,
        target = { socket = boxes.E.paths.run .. "/" .. row.id .. ".sock", token = doc.token },
        ended = task.cond(),
        handle = handle,
    }
    metrics.begin(record)
    local usage = handle:usage()
    record.usage.cpu_ns = usage and usage.cpu_ns or 0
    record.oom_seen = usage and usage.oom_kills or 0
    return record
end

-- Puts the sandbox under this engine; its way out follows by M.reach.
local function take(boxes, row)
    local handle, err = engine.adopt { pid = row.pid, start_time = row.start_time,
        cgroup = row.cgroup }
    if not handle then
        return nil, err.message
    end
    local ok, record = pcall(record_of, boxes, row, handle)
    if not ok then
        handle:close()
        return nil, "its row cannot be read: " .. tostring(record)
    end
    boxes:enter(record)
    once.adopted(boxes, record)
    return record
end

local function fetch(boxes, record)
    for i, seconds in ipairs(FETCH_SECONDS) do
        local ok, err = record.handle:fetch(boxes.E.paths.run, record.id .. ".sock", seconds)
        if ok or record.state ~= "running" then
            return
        elseif err.kind ~= "timeout" or i == #FETCH_SECONDS then
            error(err, 0)
        end
    end
end

local function open_way(boxes, record)
    local E, doc = boxes.E, record.doc
    fetch(boxes, record)
    if record.state ~= "running" then
        return
    end
    local note = E.egress:add(record.id, record.handle,
        egress.policy(doc.policy.internet, doc.network))
    if note then
        error(note, 0)
    end
    for _, row in ipairs(E.state:rows("SELECT number, name FROM names WHERE sandbox_id = ?1" ..
        " ORDER BY rowid", record.id)) do
        E.egress:name(record.id, row.number, row.name)
    end
end

-- The rest of an adoption waits for the sandbox's envd: its way out, which is
-- closed until then (connections wait), and the end that it knows itself.
local function reach(boxes, record)
    local ok, err = pcall(open_way, boxes, record)
    if not ok and record.state == "running" then
        local text = Error.is(err) and err.message or tostring(err)
        boxes:lack(record, text)
    end
    if record.state == "running" then
        boxes.tell_end(record)
    end
end

-- ---- what is over -----------------------------------------------------------

local function remove(boxes, row, fate)
    local E = boxes.E
    if fate == "end" then
        -- Without a pid the engine died while it launched, or its state was lost: the group
        -- has what there is, and the socket says who it is where there are no groups.
        local pid, start_time = row.pid, row.start_time
        if not pid then
            pid, start_time = engine.stray_at(E.paths.run, row.id .. ".sock")
        end
        local ok, err = engine.kill {
            pid = pid,
            start_time = pid and start_time,
            cgroup = row.cgroup or boxes:group_of(row.id),
        }
        if not ok then
            log.error("sandbox %s of an earlier engine does not end: %s", row.id, err.message)
            return
        end
    end
    os.remove(E.paths.run .. "/" .. row.id .. ".sock")
    local parent = row.kind == "step" and E.paths.cache .. "/tmp/" or E.paths.boxes .. "/"
    boxes.remove_dir(parent .. row.id)
    engine.lease_forget(E.paths.cache, row.id)
    E.state:will("DELETE FROM sandboxes WHERE id = ?1", row.id)
end

---Takes over what an earlier engine of this home has left. Comes back when what
---is over has gone; the living serve by then, but for their way out.
---@param boxes table
---@return table[] adopted records, for M.reach_all
---@return integer removed
function M.take_over(boxes)
    local E, adopted, removals, known = boxes.E, {}, {}, {}
    local function removing(row, fate, why)
        log.warn("removing %s of an earlier engine: %s", row.id, why)
        removals[#removals + 1] = task.spawn_quiet(remove, boxes, row, fate)
    end
    for _, row in ipairs(E.state:rows("SELECT * FROM sandboxes ORDER BY started_at")) do
        known[row.id] = true
        local fate, why = life.fate(row, E.boot_id, state.clocks())
        if fate == "adopt" then
            local record
            record, why = take(boxes, row)
            adopted[#adopted + 1] = record
            fate = record and fate or "end"
        end
        if fate ~= "adopt" then
            removing(row, fate, why)
        end
    end
    for _, row in ipairs(strays.find(E, known)) do
        removing(row, "end", "the state does not know it")
    end
    for _, t in ipairs(removals) do
        t:join(REMOVE_SECONDS)
    end
    return adopted, #removals
end

---Opens the way out of adopted sandboxes, each in a task of its own.
---@param boxes table
---@param adopted table[]
function M.reach_all(boxes, adopted)
    for _, record in ipairs(adopted) do
        task.spawn_quiet(reach, boxes, record)
    end
end

return M
