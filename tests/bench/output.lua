--- Output of one command through the SDKs, in bytes per second.
local bench = require "bench"
local clients = require "clients"
local place = require "place"

return function()
    place.base()
    local bytes = bench.scaled(64, 1) * 1048576
    local samples, failures = bench.in_turn(bench.scaled(3, 1), clients.subjects(function(name)
        return bytes / 1048576 / clients.run(name, "output", bytes).seconds
    end))
    for _, name in ipairs { "python3", "node" } do
        bench.compare { measure = ("output of a command (%d MiB)"):format(bytes // 1048576),
            unit = "MiB/s", peer = name, samples = samples.e2blua, peer_samples = samples[name],
            failure = failures[name] }
    end
end
