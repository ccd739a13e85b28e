--- Memory of one script that follows many commands, beside the official clients against the same
--- engine.
local bench = require "bench"
local clients = require "clients"
local place = require "place"

-- What a stream costs beyond the program as it was before the first one.
local function each(answer, commands)
    return (answer.peak_kb - answer.idle_kb) / commands
end

local function where(ours, theirs, name, commands)
    local text = ("%.1f MiB before the first, then %.0f KiB each, of it Lua's %.0f"):format(
        ours.idle_kb / 1024, each(ours, commands), ours.lua_kb / commands)
    return not theirs and text or ("%s; %s: %.1f MiB, %.0f KiB each"):format(text, name,
        theirs.idle_kb / 1024, each(theirs, commands))
end

return function()
    place.base()
    local commands = bench.scaled(1000, 5)
    local sandboxes = math.max(1, commands // 100)
    local got, failures = {}, {}
    for _, subject in ipairs(clients.subjects(function(name)
        return clients.run(name, "streams", sandboxes, commands, bench.probe,
            bench.scaled(2000, 100))
    end)) do
        local ok, answer = pcall(subject.sample)
        if ok then
            got[subject.name] = answer
        elseif subject.ours then
            error(answer, 0)
        else
            failures[subject.name] = tostring(answer)
        end
    end
    for _, name in ipairs { "python3", "node" } do
        local theirs = got[name]
        bench.compare { measure = ("%d commands followed: peak memory"):format(commands),
            unit = "MiB", samples = { got.e2blua.peak_kb / 1024 }, peer = name,
            peer_samples = theirs and { theirs.peak_kb / 1024 }, failure = failures[name],
            at_most = 0.1, goal = "at most 1/10",
            note = where(got.e2blua, theirs, name, commands) }
        bench.compare { measure = ("%d commands followed: until all run"):format(commands),
            unit = "s", samples = { got.e2blua.start_s }, peer = name,
            peer_samples = theirs and { theirs.start_s }, failure = failures[name] }
    end
end
