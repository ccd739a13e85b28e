-- e2blua metrics: what a sandbox uses of its processors, memory and disk.
local Error = require "e2b.error"
local Sandbox = require "e2b.sandbox"
local box = require "cli.lib.box"
local json = require "e2b_json"
local out = require "cli.lib.out"
local task = require "e2b_task"

local M = {
    summary = "prints what a sandbox uses",
    text = "The last measurement; one is taken about every 5 seconds.",
    example = "e2blua metrics i0abc1 -f",
}

local PAUSE <const> = 1

function M.define(p)
    p:argument("id", "The sandbox."):argname("<id>")
    p:flag("-a --all", "All measurements since its start.")
    p:flag("-f --follow", "Go on with each new one until the sandbox ends or Ctrl-C.")
    p:flag("--json", "As they are, a line each.")
end

local function mib(bytes)
    return ("%d MiB"):format(bytes // (1 << 20))
end

local function line(m)
    return ("%s  cpu %6.2f %% of %d  memory %s of %s  disk %s of %s"):format(
        out.clock(m.timestamp), m.cpu_used_pct, m.cpu_count, mib(m.mem_used), mib(m.mem_total),
        mib(m.disk_used), mib(m.disk_total))
end

local function newer(list, last)
    local fresh = {}
    for _, m in ipairs(list) do
        if not last or m.timestamp > last then
            fresh[#fresh + 1] = m
        end
    end
    return fresh
end

-- In its first seconds a sandbox has none.
local function first(id)
    local deadline = task.now() + 15
    while true do
        local list = box.known(Sandbox.get_metrics, id)
        if #list > 0 or task.now() > deadline then
            return list
        end
        task.sleep(PAUSE)
    end
end

function M.run(args)
    local list = first(args.id)
    if not args.all then
        list = { list[#list] }
    end
    if #list == 0 then
        out.complain("nothing has been measured yet")
        return 1
    end
    local last
    while true do
        for _, m in ipairs(list) do
            out.write(io.stdout, (args.json and json.encode(m) or line(m)) .. "\n")
            last = m.timestamp
        end
        if not args.follow then
            return 0
        end
        task.sleep(PAUSE)
        local ok, all = pcall(Sandbox.get_metrics, args.id, { start = last })
        if not ok and Error.is(all, "sandbox_not_found") then
            return 0
        elseif not ok then
            error(all, 0)
        end
        list = newer(all, last)
    end
end

return M
