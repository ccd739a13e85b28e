-- e2blua kill ID...: ends sandboxes of the backend in use.
local e2b = require "e2b"

local ids = { ... }
if #ids == 0 then
    io.stderr:write("usage: e2blua kill ID...\n")
    os.exit(2)
end
local missing = 0
for _, id in ipairs(ids) do
    if e2b.Sandbox.kill(id) then
        print(id .. " is gone")
    else
        io.stderr:write("e2blua: no sandbox ", id, "\n")
        missing = missing + 1
    end
end
os.exit(missing == 0 and 0 or 1)
