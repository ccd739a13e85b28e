-- e2blua list: the running sandboxes of the backend in use.
local e2b = require "e2b"

if select("#", ...) > 0 then
    io.stderr:write("usage: e2blua list\n")
    os.exit(2)
end

local function clock(seconds)
    return os.date("!%Y-%m-%d %H:%M:%S", seconds)
end

local pages = e2b.Sandbox.list()
local n = 0
while pages.has_next do
    for _, box in ipairs(pages:next_items()) do
        if n == 0 then
            print(("%-22s %-20s %-20s %s"):format("SANDBOX", "TEMPLATE", "STARTED (UTC)", "ENDS (UTC)"))
        end
        n = n + 1
        print(("%-22s %-20s %-20s %s"):format(box.sandbox_id, box.name or box.template_id,
            clock(box.started_at), clock(box.end_at)))
    end
end
if n == 0 then
    print("no sandboxes")
end
