-- e2blua kill: ends sandboxes of the backend in use.
local Sandbox = require "e2b.sandbox"
local box = require "cli.lib.box"
local main = require "cli.lib.main"
local out = require "cli.lib.out"

local M = {
    summary = "ends sandboxes",
    text = "Exits with 1 when one of them was not there.",
    example = "e2blua kill i0abc1 i0abc2",
}

function M.define(p)
    p:argument("id", "Sandboxes by id."):args("*"):argname("<id>")
    p:flag("-a --all", "All that there are.")
end

function M.run(args)
    local ids = args.id
    if (args.all == true) == (#ids > 0) then
        main.usage("kill", args.all and "ids and --all exclude each other" or
            "no sandbox is named; give ids or --all")
    end
    if args.all then
        for i, info in ipairs(box.all()) do
            ids[i] = info.sandbox_id
        end
    end
    local code = 0
    for _, id in ipairs(ids) do
        if Sandbox.kill(id) then
            out.write(io.stdout, id .. " is gone\n")
        elseif not args.all then -- one that has just ended by itself is fine
            out.complain(("there is no sandbox %s; e2blua list shows those there are"):format(id))
            code = 1
        end
    end
    return code
end

return M
