-- The data plane: ports of sandboxes by Host and by header, streams, tunnels,
-- and what never passes.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local http = require "e2b.http"
local json = require "e2b_json"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"

t.before(rig.warm_up)

local ALONE = { headers = { Connection = "close" } }

local function start(sbx, port, source)
    sbx.files:write(("/home/user/s%d.py"):format(port), source)
    sbx.commands:run(("exec python3 -u s%d.py >s%d.log 2>&1"):format(port, port),
        { background = true, timeout = 0 })
    sbx.commands:run(
        ("for i in $(seq 200); do ss -Htln | grep -q :%d && exit; sleep 0.05; done; " ..
        "cat s%d.log >&2; exit 1"):format(port, port))
end

-- A server of one connection: `talk` has the socket as c and its file as f.
local function raw_server(port, talk)
    return ([[
import socket, time, os
s = socket.create_server(("127.0.0.1", %d))
while True:
    c, _ = s.accept()
    f = c.makefile("rb")
    head = []
    while True:
        line = f.readline().strip().decode()
        if not line: break
        head.append(line)
    try:
%s
    except OSError as e:
        print(e)
    f.close()
    c.close()
]]):format(port, (talk:gsub("[^\n]+", "        %0")))
end

local ECHO_HEAD = [[
body = "\n".join(head).encode()
c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
]]

local function engine_url()
    return ("http://127.0.0.1:%d"):format(rig.info().port)
end

local function by_header(sbx, port, path, headers)
    local all = { ["E2b-Sandbox-Id"] = sbx.sandbox_id, ["E2b-Sandbox-Port"] = tostring(port) }
    for name, value in pairs(headers or {}) do
        all[name] = value
    end
    return rig.request { url = engine_url() .. path, headers = all }
end

t.test("by Host and by header, whatever the server binds to", function()
    local sbx = rig.sandbox()
    local binds = { [3001] = "0.0.0.0", [3002] = "127.0.0.1", [3003] = "::1", [3004] = "::" }
    for port, bind in pairs(binds) do
        sbx.commands:run(("exec python3 -m http.server -b %s %d"):format(bind, port),
            { background = true, timeout = 0 })
        child.await("no server on " .. bind, 10, function()
            return http.get(sbx:get_url(port), ALONE).status == 200
        end)
        t.eq(by_header(sbx, port, "/"), 200)
    end
    t.eq(sbx:get_host(3001), ("3001-%s.%s"):format(sbx.sandbox_id, rig.info().domain))
    local status, _, body = rig.request { url = engine_url() .. "/",
        headers = { Host = ("3001-%s.some.where.example"):format(sbx.sandbox_id) } }
    t.eq(status, 200)
    t.match(body, "Directory listing")
end)

t.test("the server sees path, query, Host and headers as they were sent", function()
    local sbx = rig.sandbox()
    start(sbx, 3000, raw_server(3000, ECHO_HEAD))
    local body = http.get(sbx:get_url(3000) .. "/a%2Fb/../c?x=%20&y=1", { headers = {
        Connection = "close, X-Hop", ["X-Hop"] = "here", ["X-Through"] = "1" } }).body
    t.match(body, "^GET /[^ ]*%?x=%%20&y=1 HTTP/1%.1\n")
    t.match(body, "\nHost: " .. sbx:get_host(3000):gsub("%p", "%%%0"))
    t.match(body, "\n[Xx]%-[Tt]hrough: 1")
    t.ok(not body:lower():find("x%-access%-token"), "the token goes to envd alone")
    t.ok(not body:lower():find("x-hop", 1, true), "hop by hop headers end here")
end)

t.test("one connection of a client serves two sandboxes", function()
    local one, two = rig.sandbox(), rig.sandbox()
    for i, sbx in ipairs { one, two } do
        sbx.files:write("/home/user/who", "I am " .. i .. "\n")
        sbx.commands:run("exec python3 -m http.server 3000", { background = true, timeout = 0 })
        child.await("no server", 10, function()
            return http.get(sbx:get_url(3000), ALONE).status == 200
        end)
    end
    local words = { "curl", "-sv" }
    for i, sbx in ipairs { one, two, one } do
        table.move({ i > 1 and "--next" or "-s", "-sv", "-H", "Host: " .. sbx:get_host(3000),
            engine_url() .. "/who" }, 1, 5, #words + 1, words)
    end
    local code, out = child.start(words):wait()
    t.eq(code, 0, out)
    local said = {}
    for n in out:gmatch("I am (%d)") do
        said[#said + 1] = n
    end
    t.eq(said, { "1", "2", "1" })
    t.eq(select(2, out:gsub("Re%-using existing connection", "")), 2)
end)

t.test("an answer streams: the first piece is there before the second exists", function()
    local sbx = rig.sandbox()
    start(sbx, 3000, raw_server(3000, [[
c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
while not os.path.exists("/tmp/go"): time.sleep(0.01)
c.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
]]))
    local x <close> = http.open { url = sbx:get_url(3000), headers = ALONE.headers }
    x:wait()
    t.eq(x:read(), "first")
    sbx.files:write("/tmp/go", "")
    t.eq(x:read(), "second")
    t.eq(x:read(), nil)
end)

t.test("a request streams: the server has the first piece before the second is sent", function()
    local sbx = rig.sandbox()
    start(sbx, 3000, raw_server(3000, [[
n = int(f.readline(), 16)
open("/tmp/got", "wb").write(f.read(n))
f.readline()
rest = b""
while True:
    n = int(f.readline(), 16)
    rest += f.read(n)
    f.readline()
    if n == 0: break
c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(rest) + rest)
]]))
    local x <close> = http.open { method = "POST", url = sbx:get_url(3000), upload = true,
        headers = ALONE.headers }
    x:write("first")
    child.await("the first piece does not arrive", 5, function()
        return sbx.files:exists("/tmp/got") and sbx.files:read("/tmp/got") == "first"
    end)
    x:write("second")
    x:finish()
    x:wait()
    t.eq(x:read(), "second")
end)

-- Bytes the server has got rid of, as its log says.
local function counted(sbx)
    return math.tointeger(tonumber(sbx.files:read("/home/user/s3000.log"):match("(%d+)\n$") or "0"))
end

local function settled(sbx)
    local last
    return child.await("it goes on and on", 20, function()
        local n = counted(sbx)
        local same = n == last and n
        last = n
        task.sleep(0.3)
        return same
    end)
end

t.test("a client that does not read holds the server up, and gets all in the end", function()
    local sbx = rig.sandbox()
    start(sbx, 3000, raw_server(3000, [[
c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
for i in range(1024):
    c.sendall(b"x" * 65536)
    print((i + 1) * 65536)
]]))
    local x <close> = http.open { url = sbx:get_url(3000), headers = ALONE.headers }
    x:wait()
    local held = settled(sbx)
    t.ok(held < 24 << 20, "the server has sent " .. held .. " bytes to nobody")
    local n = 0
    for piece in x.read, x do
        n = n + #piece
    end
    t.eq(n, 64 << 20)
end)

t.test("a server that does not read holds the client up", function()
    local sbx = rig.sandbox()
    start(sbx, 3000, raw_server(3000, [[
print("asleep")
while not os.path.exists("/tmp/go"): time.sleep(0.01)
n = 0
while n < 67108864: n += len(f.read1(1 << 20))
c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
]]))
    local sent = 0
    local x <close> = http.open { method = "POST", url = sbx:get_url(3000), upload = true,
        length = 64 << 20, headers = ALONE.headers }
    local writer = task.spawn_quiet(function()
        local piece = ("x"):rep(65536)
        for _ = 1, 1024 do
            x:write(piece)
            sent = sent + #piece
        end
        x:finish()
        x:wait()
        return x:read()
    end)
    local last
    child.await("it goes on", 10, function()
        local same = sent == last and sent > 0
        last = sent
        task.sleep(0.3)
        return same
    end)
    t.ok(sent < 24 << 20, "the client has sent " .. sent .. " bytes to nobody")
    sbx.files:write("/tmp/go", "")
    t.eq(writer:join(30), "done")
end)

t.test("after 101 a connection is a tunnel, both ways", function()
    local sbx = rig.sandbox()
    start(sbx, 3000, raw_server(3000, [[
c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
c.sendall(b"Upgrade: echo\r\n\r\nhello\n")
while True:
    line = f.readline()
    if not line: break
    c.sendall(line.upper())
c.sendall(b"bye\n")
]]))
    local code, out = child.start { "bash", "-c", ([[
        exec 3<>/dev/tcp/127.0.0.1/%d
        printf 'GET /x HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n' >&3
        while read -r -t 5 line <&3 && [ "$line" != $'\r' ]; do echo "${line%%$'\r'}"; done
        read -r -t 5 line <&3; echo "$line"
        for i in 1 2 3; do
            echo "word $i" >&3; read -r -t 5 line <&3; echo "$line"
        done]]):format(rig.info().port, sbx:get_host(3000)) }:wait()
    t.eq(code, 0, out)
    t.match(out, "^HTTP/1%.1 101 Switching Protocols\n")
    t.match(out, "\nUpgrade: echo\n")
    t.match(out, "\nhello\nWORD 1\nWORD 2\nWORD 3\n$")
end)

t.test("without 101 an asked-for upgrade is an ordinary answer", function()
    local sbx = rig.sandbox()
    start(sbx, 3000, raw_server(3000, ECHO_HEAD))
    local status, _, body = by_header(sbx, 3000, "/", { Upgrade = "websocket" })
    t.eq(status, 200)
    t.match(body, "^GET / HTTP/1%.1")
end)

t.test("a closed port and a dead sandbox say which, as JSON and as a page", function()
    local sbx = rig.sandbox()
    local id = sbx.sandbox_id
    local browser = { Accept = "text/html,*/*", ["User-Agent"] = "Mozilla/5.0 Firefox/115.0" }
    local status, headers, body = by_header(sbx, 3999, "/")
    t.eq(status, 502)
    t.match(headers["content-type"], "^application/json")
    t.eq(json.decode(body), { sandboxId = id, port = 3999, code = 502,
        message = "The sandbox is running but port is not open" })
    status, headers, body = by_header(sbx, 3999, "/", browser)
    t.eq(status, 502)
    t.match(headers["content-type"], "^text/html")
    t.match(body, "no service running on port 3999")
    sbx:kill()
    status, headers, body = by_header(sbx, 3999, "/")
    t.eq(status, 502)
    t.match(headers["content-type"], "^application/json")
    t.eq(json.decode(body), { sandboxId = id, code = 502, message = "The sandbox was not found" })
    local page = http.get(sbx:get_url(3000), { headers = { Connection = "close",
        Accept = browser.Accept, ["User-Agent"] = browser["User-Agent"] } })
    t.eq(page.status, 502)
    t.match(page.body, "<html.*" .. id)
end)

t.test("a server that answers nothing is 502", function()
    local sbx = rig.sandbox()
    start(sbx, 3000, raw_server(3000, "pass"))
    t.eq(by_header(sbx, 3000, "/"), 502)
end)

t.test("an answer that breaks off breaks off here too", function()
    local sbx = rig.sandbox()
    start(sbx, 3000, raw_server(3000,
        'c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nhalf")'))
    local x <close> = http.open { url = sbx:get_url(3000), headers = ALONE.headers }
    x:wait()
    local all, ok, piece = ""
    repeat
        ok, piece = pcall(x.read, x)
        all = all .. (ok and piece or "")
    until not ok or not piece
    t.eq(all, "half")
    t.eq(ok, false, "half an answer was taken for a whole one")
end)

t.test("killing the sandbox ends open connections at once", function()
    local sbx = rig.sandbox()
    start(sbx, 3000, raw_server(3000, [[
c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
time.sleep(60)
]]))
    local x <close> = http.open { url = sbx:get_url(3000), headers = ALONE.headers }
    x:wait()
    t.eq(x:read(), "first")
    local reader = task.spawn_quiet(x.read, x)
    task.sleep(0.1)
    local began = task.now()
    Sandbox.kill(sbx.sandbox_id)
    t.raises("network", reader.join, reader, 5)
    t.ok(task.now() - began < 1, "it took longer than a second")
end)

t.test("/init and the engine's own verbs never pass from TCP", function()
    local sbx = rig.sandbox()
    local info = rig.info()
    for _, path in ipairs { "/init", "/init/", "//init", "/./init", "/x/../init", "/%69nit",
        "/INIT", "/init?x=1", "/_engine/deadline", "/_engine/deadline/", "/%5Fengine/deadline",
        "/_engine//deadline", "/a/../_engine/deadline" } do
        local status = child.start { "curl", "-s", "--path-as-is", "-o", "/dev/null", "-w",
            "%{http_code}", "-X", "POST", "-H", "E2b-Sandbox-Id: " .. sbx.sandbox_id, "-H",
            "E2b-Sandbox-Port: 49983", "-H", "X-Access-Token: " .. sbx._connection.access_token,
            "-H", "Content-Type: application/json", "-d", "{}",
            ("http://127.0.0.1:%d%s"):format(info.port, path) }
        local _, out = status:wait()
        t.eq(out, "404", path)
    end
    for _, path in ipairs { "/_engine/status", "/_engine/stop", "/%5Fengine/status",
        "//_engine/stop" } do
        for _, headers in ipairs { {}, { ["X-API-Key"] = info.api_key } } do
            local status = rig.api(path:find "stop" and "POST" or "GET", path, nil, headers)
            t.ok(status == 404 or status == 401, path .. " gave " .. status)
        end
    end
    t.eq(sbx:is_running(), true)
end)

t.test("envd wants its token", function()
    local sbx = rig.sandbox()
    local function try(token)
        return by_header(sbx, 49983, "/files?path=/etc/hostname", { ["X-Access-Token"] = token })
    end
    t.eq(try(nil), 401)
    t.eq(try("wrong"), 401)
    t.eq(try(sbx._connection.access_token), 200)
    t.eq(by_header(sbx, 49983, "/health"), 204)
end)

t.test("a signed URL is good for its file, its time and nothing else", function()
    local sbx = rig.sandbox()
    sbx.files:write("/home/user/x y.txt", "signed")
    local function get(url)
        local r = http.get(url, ALONE)
        return r.status, r.body
    end
    t.eq({ get(sbx:download_url("/home/user/x y.txt")) }, { 200, "signed" })
    t.eq(get((sbx:download_url("/home/user/x y.txt"):gsub("x%%20y", "z"))), 401)
    local url = sbx:download_url("/home/user/x y.txt", { use_signature_expiration = 1 })
    t.eq(get(url), 200)
    task.sleep(2.1)
    t.eq(get(url), 401)
end)
