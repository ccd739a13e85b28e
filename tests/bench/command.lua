--- A command in a running sandbox, beside a plain fork and exec of the same argv in the same root.
local bench = require "bench"
local place = require "place"

return function()
    local base = place.base()
    local sandbox <close> = place.sandbox()
    local samples, failures = bench.in_turn(bench.scaled(200, 5), {
        { name = "e2blua", ours = true, sample = function()
            return bench.timed(sandbox.commands.run, sandbox.commands, "true")
        end },
        { name = "fork+exec", sample = function()
            return (bench.run({ "/bin/bash", "-l", "-c", "true" }, base))
        end },
    })
    bench.compare { measure = "command in a running sandbox", unit = "ms", peer = "fork+exec",
        samples = samples.e2blua, peer_samples = samples["fork+exec"],
        failure = failures["fork+exec"], plus = 2, goal = "at most fork+exec + 2 ms",
        note = ("p95 %.1f ms; the peer: bash -l -c true as the same user in a chroot of the image")
            :format(bench.percentile(samples.e2blua, 0.95)) }
end
