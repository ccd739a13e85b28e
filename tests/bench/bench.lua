--- What the benches are written with: sizes, samples taken in turn with those of the peers, and
--- rows of the table. Nothing here prints or exits.
local Error = require "e2b.error"
local fs = require "e2b_fs"
local json = require "e2b_json"
local task = require "e2b_task"

local env = fs.environ()

local M = {
    rows = {}, -- of the bench that runs
    probe = env.BENCH_PROBE,
    tools = env.BENCH_TOOLS, -- of the official clients; "" when they are not to run
    here = nil, -- this folder
}

-- ---- sizes ---------------------------------------------------------------------------------

local scale = tonumber(env.BENCH_SCALE or "") or 1

--- So many, by BENCH_SCALE.
---@param full integer
---@param least integer
---@return integer
function M.scaled(full, least)
    return math.max(least, math.floor(full * scale + 0.5))
end

-- ---- numbers -------------------------------------------------------------------------------

--- The value that a share p of the list does not exceed (nearest rank).
---@param list number[]
---@param p number from 0 to 1
---@return number
function M.percentile(list, p)
    local sorted = table.move(list, 1, #list, 1, {})
    table.sort(sorted)
    return sorted[math.max(1, math.ceil(p * #sorted))]
end

---@param list number[]
---@return number
function M.median(list)
    local sorted = table.move(list, 1, #list, 1, {})
    table.sort(sorted)
    local half = #sorted // 2
    return #sorted % 2 == 1 and sorted[half + 1] or (sorted[half] + sorted[half + 1]) / 2
end

--- Median of the quotients of samples that were taken one after the other: what the neighbours do
--- meanwhile meets both.
---@param ours number[]
---@param theirs number[]
---@return number
function M.ratio(ours, theirs)
    local quotients = {}
    for i = 1, math.min(#ours, #theirs) do
        quotients[i] = ours[i] / theirs[i]
    end
    return M.median(quotients)
end

--- Milliseconds that a call takes.
---@return number
function M.timed(fn, ...)
    local began = task.now()
    fn(...)
    return (task.now() - began) * 1000
end

--- Takes the samples of all in turn. A peer that fails once is left out from then on.
---@param rounds integer
---@param subjects {name: string, sample: fun(round: integer): number|nil, warm_up: boolean?}[]
---@return table<string, number[]> samples
---@return table<string, string> failures  by name: why it cannot run
function M.in_turn(rounds, subjects)
    local samples, failures = {}, {}
    for round = 0, rounds do -- the first one is not counted
        for _, subject in ipairs(subjects) do
            local name = subject.name
            local list = samples[name] or {}
            samples[name] = list
            if not failures[name] then
                local ok, value = pcall(subject.sample, round)
                if not ok and subject.ours then
                    Error.raise(value)
                elseif not ok then
                    failures[name] = tostring(value)
                elseif round > 0 then
                    list[#list + 1] = value
                end
            end
        end
    end
    return samples, failures
end

-- ---- programs ------------------------------------------------------------------------------

---@param word any
---@return string
function M.quoted(word)
    return "'" .. tostring(word):gsub("'", [['\'']]) .. "'"
end

--- Output of a program; raises with what it said when it fails.
---@param words string[]
---@return string
function M.output(words)
    local parts = {}
    for i, word in ipairs(words) do
        parts[i] = M.quoted(word)
    end
    local pipe = assert(io.popen("timeout 300 " .. table.concat(parts, " ") .. " 2>&1 </dev/null"))
    local text = pipe:read "a"
    local ok, _, code = pipe:close()
    if not ok then
        local line = text:match "[^\n]*[%w]Error: [^\n]*" or text:gsub("%s+$", ""):match "[^\n]*$"
        error(("%s ends with %d: %s"):format(words[1]:match "[^/]*$", code, line:sub(-200)), 0)
    end
    return text
end

--- What the C half prints, as rows of numbers.
---@param ... any its arguments
---@return number[][]
function M.probed(...)
    local rows = {}
    for line in M.output({ M.probe, ... }):gmatch "[^\n]+" do
        local row = {}
        for word in line:gmatch "%S+" do
            row[#row + 1] = assert(tonumber(word), line)
        end
        rows[#rows + 1] = row
    end
    return rows
end

--- Times one plain fork and exec.
---@param words string[]
---@param root? string run as user 1000 in this root folder
---@return number ms, number rss_kb
function M.run(words, root)
    local row = M.probed("many", 1, root or "-", table.unpack(words))[1]
    return row[1] / 1000, row[2]
end

--- The words, started in a folder.
function M.inside(dir, words)
    return { "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", dir, table.unpack(words) }
end

--- A program on this machine, or nil; also nil when no peers are wanted.
---@return string|nil
function M.which(name)
    if env.BENCH_PEERS == "no" then
        return nil
    end
    for dir in (env.PATH or ""):gmatch "[^:]+" do
        if fs.stat(dir .. "/" .. name) then
            return dir .. "/" .. name
        end
    end
end

-- ---- processes and memory --------------------------------------------------------------------

-- A field of /proc in KiB or as it is.
local function field(text, name)
    return tonumber(text:match("\n" .. name .. ":%s*(%d+)"))
end

--- Numbers of /proc/meminfo in KiB.
function M.meminfo(name)
    return field("\n" .. assert(fs.read_file("/proc/meminfo", 1 << 16)), name)
end

--- Peak and present size of a process in KiB.
---@param pid integer
---@return integer peak, integer now
function M.memory(pid)
    local text = assert(fs.read_file(("/proc/%d/status"):format(pid), 1 << 16))
    return field(text, "VmHWM"), field(text, "VmRSS")
end

--- Private memory and a share of what is shared, in KiB; 0 where it may not be read.
---@param pid integer
---@return integer
function M.pss(pid)
    local text = fs.read_file(("/proc/%d/smaps_rollup"):format(pid), 1 << 16)
    return text and field(text, "Pss") or 0
end

--- Processor time that a process has taken, in seconds.
---@param pid integer
---@return number
function M.processor(pid)
    local text = assert(fs.read_file(("/proc/%d/stat"):format(pid), 1 << 16))
    local user, system = text:match("%) %S+" .. (" %-?%d+"):rep(10) .. " (%d+) (%d+)")
    return (tonumber(user) + tonumber(system)) / 100 -- USER_HZ
end

--- From now on the peak counts anew; false where that is not allowed.
---@param pid integer
---@return boolean
function M.forget_peak(pid)
    local f <close> = io.open(("/proc/%d/clear_refs"):format(pid), "w")
    return f ~= nil and f:write "5" ~= nil
end

--- The engine's process.
---@return integer
function M.engine_pid()
    return assert(require("engine.client").info(require("engine.paths").of())).pid
end

--- Pid 1 of every living sandbox, as seen from here.
---@return integer[]
function M.envd_pids()
    local out = {}
    local threads = ("/proc/%d/task"):format(M.engine_pid())
    for _, thread in ipairs(fs.list(threads) or {}) do
        local text = fs.read_file(threads .. "/" .. thread .. "/children", 1 << 20) or ""
        for pid in text:gmatch "%d+" do
            out[#out + 1] = math.tointeger(tonumber(pid))
        end
    end
    return out
end

-- ---- rows ------------------------------------------------------------------------------------

---@class bench.Row
---@field measure string
---@field unit string
---@field ours? number
---@field peer? string
---@field theirs? number
---@field ratio? number ours by the peer's
---@field goal? string
---@field met? boolean
---@field samples? integer
---@field note? string

--- Adds a row to the table.
---@param row bench.Row
function M.row(row)
    M.rows[#M.rows + 1] = row
end

--- A row for samples taken in turn with a peer's. `at_most` and `at_least` bound the ratio;
--- `plus` the difference to the peer in the row's unit.
---@param row bench.Row|{samples: number[], peer_samples: number[]?, failure: string?,
--- at_most: number?, at_least: number?, plus: number?}
function M.compare(row)
    local ours, theirs = row.samples, row.peer_samples
    local out = { measure = row.measure, unit = row.unit, goal = row.goal, peer = row.peer,
        ours = M.median(ours), samples = #ours, note = row.note }
    if row.failure or not theirs or #theirs == 0 then
        out.note = (row.peer or "the peer") .. " cannot run: " ..
            (row.failure or "it is not installed") .. (row.note and "; " .. row.note or "")
        M.row(out)
        return
    end
    out.theirs, out.ratio = M.median(theirs), M.ratio(ours, theirs)
    if row.at_most then
        out.met = out.ratio <= row.at_most
    elseif row.at_least then
        out.met = out.ratio >= row.at_least
    elseif row.plus then
        out.met = out.ours - out.theirs <= row.plus
    end
    M.row(out)
end

--- A row for one figure of ours with a bound of its own.
---@param row bench.Row|{bound: number?} at most so much
function M.figure(row)
    local bound = row.bound
    row.bound = nil
    if bound then
        row.met = row.ours <= bound
    end
    M.row(row)
end

--- The rows as JSON.
---@return string
function M.encoded()
    return json.encode(json.array(M.rows), { pretty = true })
end

return M
