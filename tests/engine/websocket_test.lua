-- Websockets to a server in a sandbox, by a client and a server that are not
-- ours: Debian's python3-websockets, whose files the sandbox is given.
local child = require "child"
local fs = require "e2b_fs"
local rig = require "engine_rig"
local t = require "tests"

t.before(rig.warm_up)

local PYTHON <const> = "/usr/bin/python3"

local SERVER <const> = [[
import asyncio, websockets

async def talk(ws):
    try:
        async for message in ws:
            if message == "bye":
                await ws.close(4001, "as asked")
            await ws.send(message)
        print("ended well", flush=True)
    except websockets.ConnectionClosed as e:
        print("ended without a word" if e.rcvd is None else f"ended {e.rcvd.code}", flush=True)

async def main():
    async with websockets.serve(talk, "127.0.0.1", 3000, max_size=1 << 24):
        await asyncio.Future()

asyncio.run(main())
]]

local function started()
    local sbx = rig.sandbox()
    local archive = t.tmpdir() .. "/websockets.tar.gz"
    t.ok(os.execute("tar -C /usr/lib/python3/dist-packages --exclude '*.so' --exclude " ..
        "__pycache__ -czf " .. archive .. " websockets"), "python3-websockets is not there")
    sbx.files:write("/home/user/websockets.tar.gz", fs.read_file(archive, 1 << 24))
    sbx.files:write("/home/user/server.py", SERVER)
    sbx.commands:run "tar -xzf websockets.tar.gz"
    sbx.commands:run("exec python3 -u server.py >server.log 2>&1",
        { background = true, timeout = 0 })
    sbx.commands:run("for i in $(seq 200); do ss -Htln | grep -q :3000 && exit; sleep 0.05; " ..
        "done; cat server.log >&2; exit 1")
    return sbx
end

local function client(sbx, mode)
    return child.start({ PYTHON, "tests/lib/websocket_client.py",
        tostring(rig.info().port), sbx:get_host(3000), mode }, { dir = fs.cwd() })
end

local function server_says(sbx, what)
    rig.await("the server does not notice", 5, function()
        return sbx.files:read("/home/user/server.log"):find(what, 1, true)
    end)
end

t.test("text, 4 MiB of bytes and pings pass both ways, eight at once", function()
    local sbx = started()
    local code, out = client(sbx, "many"):wait(50)
    t.eq({ code, out }, { 0, "conversed\n" })
    server_says(sbx, "ended well")
end)

t.test("a client that is cut in the middle of a frame is seen at once by the server", function()
    local sbx = started()
    local code, out = client(sbx, "cut"):wait(30)
    t.eq({ code, out }, { 0, "cut\n" })
    server_says(sbx, "ended without a word")
    local again, text = client(sbx, "many"):wait(50)
    t.eq({ again, text }, { 0, "conversed\n" })
end)

t.test("the end of the server, or of the sandbox, is seen at once by the client", function()
    for _, how in ipairs { "server", "sandbox" } do
        local sbx = started()
        local c = client(sbx, "until_closed")
        rig.await("the client does not talk", 10, function()
            return c:output():find("open", 1, true)
        end)
        if how == "server" then
            sbx.commands:run "pkill -KILL -f server.py"
        else
            sbx:kill()
        end
        local code, out = c:wait(5)
        t.eq({ how, code, out }, { how, 0, "open\nclosed without a word\n" })
    end
end)
