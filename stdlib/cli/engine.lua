-- e2blua engine: the embedded engine of this home. `engine serve HOME CACHE` is
-- the daemon itself, started by engine.client; see cli.lib.main.
local client = require "engine.client"
local out = require "cli.lib.out"
local paths = require "engine.paths"
local program = require "e2b.program"
local task = require "e2b_task"

local M = {
    summary = "shows, stops or tidies the embedded engine of this machine",
    text = "It starts by itself when it is needed, and ends when nobody has used it for a while.",
    example = "e2blua engine logs -f",
}

function M.define(p)
    p:command_target("action")
    p:command("status", "Whether it runs, and what it does; exit code 1 when it does not.")
    p:command("stop", "Ends it and all its sandboxes.")
    p:command("logs", "What it has noted."):flag("-f --follow", "Go on until Ctrl-C.")
    local c = p:command("gc", "Removes layers of the cache, the least recently used first, until" ..
        " it is within its limit, and what dead builders left. Never those in use, of a" ..
        " registered template, or the base image.")
    c:option("--max", "The limit, such as 20G, or none; by default E2BLUA_CACHE_MAX, else 20G.")
        :argname("<size>")
    c:flag("--dry-run", "Only says what would go.")
    c:flag("--verify", "Reads all layers; those whose content has changed are set aside, to be" ..
        " made again by the next build.")
    p:command("unshare", "Runs a command with the rights that an ordinary user's engine has over" ..
        " the files of sandboxes, to look at them or to remove them.")
        :argument("command", "The command and its arguments."):args("+"):argname("<command>")
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
    if s.note then
        print("note     " .. s.note)
    end
    if s.notice then
        print("notice   " .. s.notice)
    end
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

local function collect(p, args)
    local gc = require "engine.gc" -- the other actions do without SQLite and all
    require("engine.rootless").enter(p) -- the layers' files are others'
    local max = gc.limit()
    if args.max then
        max = gc.parse(args.max, "--max")
    end
    local report = gc.run(p.cache, { max = max, dry_run = args.dry_run, verify = args.verify })
    for _, bad in ipairs(report.damaged) do
        print(("%s; %s"):format(bad.message, bad.name == "-" and "it would be set aside"
            or ("set aside as %s/%s"):format(p.cache, bad.name)))
    end
    local verb = args.dry_run and "would remove" or "removed"
    for _, layer in ipairs(report.removed) do
        print(("%s layer %s, %s%s"):format(verb, layer.id:sub(1, 12),
            gc.size(math.tointeger(layer.bytes)),
            layer.why == "useless" and ", which nothing can use any more" or ""))
    end
    if args.verify then
        print(("verified %d layers, %d damaged, %d without a digest"):format(report.checked,
            #report.damaged, report.unchecked))
    end
    print(("%s %d layers (%s), %d set aside before, %d folders of dead builders"):format(verb,
        report.gone, gc.size(report.gone_bytes), report.aside, report.tmp))
    print(("cache %s: %d layers, %s; limit %s"):format(p.cache, report.layers,
        gc.size(report.bytes), max and gc.size(max) or "none"))
    local why = gc.over(report, max)
    if why then
        out.complain(why)
    end
    return #report.damaged > 0 and 1 or 0
end

local function unshare(p, words)
    require("engine.rootless").enter(p)
    local _, how, code = os.execute(require("e2b.template.shell").quote_all(words))
    return how == "signal" and 128 + code or code
end

---All behind unshare is the command.
---@param words string[]
---@return string[]
function M.prepare(words)
    if words[1] == "unshare" and words[2] ~= "--" and (words[2] or ""):sub(1, 1) ~= "-" then
        table.insert(words, 2, "--")
    end
    return words
end

function M.run(args)
    local p = paths.of()
    if args.action == "status" then
        return status(p)
    elseif args.action == "stop" then
        return stop(p)
    elseif args.action == "gc" then
        return collect(p, args)
    elseif args.action == "unshare" then
        return unshare(p, args.command)
    end
    return logs(p, args.follow)
end

return M
