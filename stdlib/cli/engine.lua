-- e2blua engine: the embedded engine of this home. `engine serve HOME CACHE` is
-- the daemon itself, started by engine.client; see cli.lib.main.
local client = require "engine.client"
local out = require "cli.lib.out"
local paths = require "engine.paths"
local program = require "e2b.program"
local task = require "e2b_task"

local M = {
    summary = "shows or stops the embedded engine of this machine",
    text = "It starts by itself when it is needed, and ends when nobody has used it for a while.",
    example = "e2blua engine logs -f",
}

function M.define(p)
    p:command_target("action")
    p:command("status", "Whether it runs, and what it does; exit code 1 when it does not.")
    p:command("stop", "Ends it and all its sandboxes.")
    p:command("logs", "What it has noted."):flag("-f --follow", "Go on until Ctrl-C.")
end

local function status(p)
    local s = client.status(p)
    if not s then
        print("no engine runs in " .. p.home)
        local orphans = client.orphans(p)
        if orphans > 0 then
            print(("%d sandboxes of one that has died are left: the next call takes them over," ..
                " `%s engine stop` ends them"):format(orphans, program.name()))
        end
        return 1
    end
    local image = s.image.state
    if image ~= "ready" then
        image = image .. ": " .. (s.image.message or s.image.stage or "")
    end
    print(("engine   pid %d, port %d, up %d s"):format(s.pid, s.port, math.floor(s.uptime)))
    print("home     " .. s.home)
    print("cache    " .. s.cache)
    print(("running  %d sandboxes, %d builds"):format(s.sandboxes, s.builds))
    print("image    " .. image)
    return 0
end

local function stop(p)
    print(client.stop(p) and "the engine has ended" or "no engine runs in " .. p.home)
    return 0
end

local function logs(p, follow)
    local f <close>, why = io.open(p.log, "r")
    if not f then
        out.complain("no log yet: " .. why)
        return 1
    end
    while true do
        local text = f:read(65536)
        if text then
            out.write(io.stdout, text)
        elseif follow then
            task.sleep(0.3)
            f:seek("cur", 0) -- forget the end of file
        else
            return 0
        end
    end
end

function M.run(args)
    local p = paths.of()
    if args.action == "status" then
        return status(p)
    elseif args.action == "stop" then
        return stop(p)
    end
    return logs(p, args.follow)
end

return M
