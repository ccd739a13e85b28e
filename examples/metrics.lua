-- What a sandbox uses, and a warning before its memory or disk is full.
local e2b = require "e2b"

local warned = false
local manager <close> = e2b.SandboxManager("base", {
    timeout = 120,
    metrics_interval = 1,
    on_metrics = function(m)
        print(("cpu %.0f %% of %d, memory %d MiB of %d"):format(m.cpu_used_pct, m.cpu_count,
            m.mem_used >> 20, m.mem_total >> 20))
    end,
    on_warning = function(warning)
        warned = true
        print("warning: " .. warning.message)
    end,
})
manager:start()

manager.commands:run("python3 -c 'import time; x = b\"x\" * (950 << 20); time.sleep(60)'",
    { background = true, timeout = 0 })
e2b.timeout(30, function()
    while not warned do
        e2b.sleep(0.1)
    end
end)
