-- Start commands at create: waited for by their ready command, and what is said
-- when they fail.
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local fs = require "e2b_fs"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"
local wire = require "e2b_wire"

t.before(rig.warm_up)

local function build(command, ready)
    local name = "start-" .. wire.random(4)
    Template.build(Template():from_base_image():set_start_cmd(command, ready), name)
    t.cleanup(function()
        rig.api("DELETE", "/templates/" .. name)
    end)
    return name
end

local function create(name)
    return Sandbox.create { template = name, timeout = 60, allow_internet_access = false }
end

t.test("create comes back when the start command is ready", { timeout = 120 }, function()
    local name = build("echo $E2B_SANDBOX_ID > /tmp/id; sleep 0.5; " ..
        "exec python3 -m http.server 3000", Template.wait_for_port and
        Template.wait_for_port(3000) or require("e2b").wait_for_port(3000))
    local sbx <close> = create(name)
    local began = task.now()
    t.eq(rig.request { url = sbx:get_url(3000) .. "/" }, 200)
    t.ok(task.now() - began < 0.4, "create came back before it was ready")
    t.eq(sbx.files:read("/tmp/id"), sbx.sandbox_id .. "\n")
end)

t.test("a start command that fails at create: its output is in the error, nothing is left",
    { timeout = 120 }, function()
    -- At build there is no sandbox id.
    local name = build([[
        if [ -n "$E2B_SANDBOX_ID" ]; then echo "no such luck" >&2; exit 3; fi
        touch /tmp/ok; sleep 99]],
        "test -e /tmp/ok")
    local before = #Sandbox.list():next_items()
    local began = task.now()
    local e = t.raises("sandbox", create, name)
    t.ok(task.now() - began < 5, "it took longer")
    t.match(e.message, "no such luck")
    t.match(e.message, "exit status 3")
    t.eq(#Sandbox.list():next_items(), before)
end)

t.test("killed while its start command is waited for", { timeout = 120 }, function()
    local name = build([[test -n "$E2B_SANDBOX_ID" || touch /tmp/ok; sleep 99]], "test -e /tmp/ok")
    local function sockets()
        local names = {}
        for _, entry in ipairs(fs.list(require("engine.paths").of().run)) do
            names[entry] = entry:match("^(i%w+)%.sock$")
        end
        return names
    end
    local before = sockets()
    local creating = task.spawn_quiet(create, name)
    task.sleep(1)
    local id
    for entry, its in pairs(sockets()) do
        id = not before[entry] and its or id
    end
    t.ok(id, "it is not being created")
    local began = task.now()
    rig.api("DELETE", "/sandboxes/" .. id)
    local e = t.raises("sandbox", creating.join, creating, 10)
    t.ok(task.now() - began < 2, "it took longer")
    t.match(e.message, "ended while it was being created")
end)
