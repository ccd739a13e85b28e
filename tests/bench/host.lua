--- Start of the program with the SDK, beside node and Python with E2B's.
local bench = require "bench"
local process = require "e2b_process"

local function client(name, words)
    return { name = name, sample = function()
        local ms, kb = bench.run(words)
        return { ms = ms, kb = kb }
    end }
end

local function column(list, key)
    local out = {}
    for i, v in ipairs(list or {}) do
        out[i] = v[key]
    end
    return out
end

return function()
    local tools = bench.tools
    local samples, failures = bench.in_turn(bench.scaled(20, 3), {
        { name = "e2blua", ours = true,
            sample = client("", { process.exe(), "-e", 'require "e2b"' }).sample },
        client("node", bench.inside(tools .. "/js",
            { tools .. "/bin/node", "-e", 'require("e2b")' })),
        client("python3", { tools .. "/bin/python", "-c", "import e2b" }),
    })
    local ours = samples.e2blua
    for _, name in ipairs { "node", "python3" } do
        local theirs, node = samples[name], name == "node"
        bench.compare { measure = "start with the SDK: time", unit = "ms", peer = name,
            samples = column(ours, "ms"), peer_samples = column(theirs, "ms"),
            failure = failures[name], at_most = node and 0.1 or nil,
            goal = node and "at most 1/10 (aim 1/30)" or nil }
        bench.compare { measure = "start with the SDK: memory", unit = "KiB", peer = name,
            samples = column(ours, "kb"), peer_samples = column(theirs, "kb"),
            failure = failures[name], at_most = node and 0.25 or nil,
            goal = node and "at most 1/4 (aim 1/30)" or nil }
    end
end
