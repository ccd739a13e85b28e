-- e2blua engine status | stop | logs [-f]: the embedded engine of this home.
-- `engine serve HOME CACHE` is the daemon itself, started by engine.client.
local client = require "engine.client"
local paths = require "engine.paths"
local task = require "e2b_task"

local USAGE <const> = "usage: e2blua engine status|stop|logs [-f]"

local function status(p)
    local s = client.status(p)
    if not s then
        print("no engine runs in " .. p.home)
        return 1
    end
    print(("engine   pid %d, port %d, up %d s"):format(s.pid, s.port, math.floor(s.uptime)))
    print("home     " .. s.home)
    print("cache    " .. s.cache)
    print(("running  %d sandboxes, %d builds"):format(s.sandboxes, s.builds))
    print("image    " .. (s.image.state == "ready" and "ready" or s.image.state .. ": " ..
        (s.image.message or s.image.stage or "")))
    return 0
end

local function stop(p)
    print(client.stop(p) and "the engine has ended" or "no engine runs in " .. p.home)
    return 0
end

local function logs(p, follow)
    local f, why = io.open(p.log, "r")
    if not f then
        io.stderr:write("e2blua: no log yet: ", why, "\n")
        return 1
    end
    while true do
        local text = f:read(65536)
        if text then
            io.stdout:write(text)
        elseif follow then
            io.stdout:flush()
            task.sleep(0.3)
            f:seek("cur", 0) -- forget the end of file
        else
            return 0
        end
    end
end

local verb, first, second = ...
local p = paths.of()
if verb == "serve" and first and second then
    require("engine.serve").run(first, second)
elseif verb == "status" and not first then
    os.exit(status(p))
elseif verb == "stop" and not first then
    os.exit(stop(p))
elseif verb == "logs" and (not first or first == "-f") then
    os.exit(logs(p, first == "-f"))
else
    local near = verb and require("e2b.options").nearest(verb, { status = true, stop = true, logs = true })
    io.stderr:write(USAGE, near and ("; did you mean " .. near .. "?") or "", "\n")
    os.exit(2)
end
