-- The scenario of examples/first.lua and a template build, by our own SDK.
-- Prints the outcome as one JSON object.
local e2b = require "e2b"

local function fetch(url)
    for _ = 1, 100 do
        local answer = e2b.http.get(url)
        if answer.status == 200 then
            return answer.body
        end
        e2b.sleep(0.1)
    end
    error(url .. " did not answer")
end

local function use(sbx, out)
    local r = sbx.commands:run("uname -n; id -un; echo err >&2")
    out.run = e2b.json.array { r.stdout, r.stderr, r.exit_code }
    sbx.files:write("/home/user/a.txt", "héllo")
    out.read = sbx.files:read("/home/user/a.txt")
    out.names = e2b.json.array {}
    for i, entry in ipairs(sbx.files:list("/home/user")) do
        out.names[i] = entry.name
    end
    table.sort(out.names)
    out.dirs = e2b.json.array { sbx.files:exists("/home/user/zz"),
        sbx.files:make_dir("/home/user/d"), sbx.files:make_dir("/home/user/d") }
    local ok, err = pcall(sbx.commands.run, sbx.commands, "exit 7")
    out.exit = not ok and err.result.exit_code
    local seen = {}
    local handle = sbx.commands:run("for i in 1 2 3; do echo $i; sleep 0.1; done", {
        background = true,
        on_stdout = function(text) seen[#seen + 1] = text end,
    })
    local exit_code = handle:wait().exit_code
    out.background = e2b.json.array { exit_code, table.concat(seen) }
    sbx.commands:run("python3 -m http.server 8000", { background = true })
    local host = sbx:get_host(8000)
    out.host = host:sub(1, #("8000-" .. sbx.sandbox_id .. ".")) == "8000-" .. sbx.sandbox_id .. "."
    out.page = fetch(sbx:get_url(8000) .. "/a.txt")
    sbx:set_timeout(100)
    out.running = sbx:is_running()
end

local out = {}
local sbx <close> = e2b.Sandbox.create()
use(sbx, out)
out.kill = sbx:kill()
out.after = sbx:is_running()
local name = "client-lua"
local template = e2b.Template():from_base_image():run_cmd("echo hi > /home/user/x")
    :copy("scenario.lua", "/home/user/copied")
    :set_start_cmd("python3 -m http.server 9000", e2b.wait_for_port(9000))
out.build = e2b.Template.build(template, name).name == name
local built <close> = e2b.Sandbox.create(name)
out.built = built.commands:run("cat x; test -s copied && echo copied").stdout
print(e2b.json.encode(out))
