-- Sandboxes' way out, with servers on loopback addresses of this machine that
-- names of a hosts file lead to. Nothing here leaves the machine.
local Sandbox = require "e2b.sandbox"
local child = require "child"
local fs = require "e2b_fs"
local httpd = require "e2b_httpd"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"
local world = require "template_world"

t.before(rig.warm_up)

-- Not 127.0.0.1, where others may have the ports.
local SERVER <const> = "127.77.30.1"
local ALL <const> = "0.0.0.0/0"

local HOSTS <const> = SERVER .. [[ allowed.test one.allowed.test other.test private.test # comment
127.77.30.1	many0.test many1.test many2.test many3.test many4.test
169.254.169.254 metadata.test
203.0.113.1 unreachable.test
]]

-- ---- servers and sandboxes ------------------------------------------------------------------

local MIB <const> = 1 << 20
local SIZE <const> = 48

local function serve(req)
    if req.path == "/big" then
        local block = ("0123456789abcdef"):rep(MIB // 16)
        req:begin(200, nil, SIZE * MIB)
        for _ = 1, SIZE do
            if not req:write(block) then
                return
            end
        end
        req:finish()
    elseif req.path == "/take" then
        local n, good = 0, true
        for chunk in req.read, req do
            n, good = n + #chunk, good and not chunk:find("[^x]")
        end
        req:reply(200, nil, ("%d %s\n"):format(n, tostring(good)))
    elseif req.path == "/slow" then
        req:begin(200)
        while req:write("x") do
            task.sleep(0.05)
        end
    else
        req:reply(200, nil, "hello " .. tostring(req.headers.host) .. "\n")
    end
end

local function server(port, host)
    if port and port < 1024 then
        rig.needs_root()
    end
    local s = assert(httpd.listen { host = host or SERVER, port = port or 0, handler = serve })
    t.cleanup(function()
        s:close()
    end)
    return s.port
end

-- An engine that knows the names.
local function engine()
    local path = t.tmpdir() .. "/hosts"
    assert(fs.write_file(path, HOSTS))
    return world.engine { E2BLUA_HOSTS_FILE = path }
end

local function create(on, opts)
    local sandbox = Sandbox.create("base", world.at(on, opts))
    t.cleanup(function()
        sandbox:close()
    end)
    return sandbox
end

local function closed(on, ...)
    return create(on, { network = { allow_out = { ... }, deny_out = { ALL } } })
end

-- Output of both streams, whatever the exit code.
local function sh(sandbox, command)
    return sandbox.commands:run("{ " .. command .. "\n} 2>&1 || true", { timeout = 40 }).stdout
end

local function curl(sandbox, words)
    return sh(sandbox, "curl -sS -m 20 " .. words)
end

-- A reset may come before or after the client has seen that it is connected.
local function is_reset(out, what)
    t.ok(out:find("reset by peer", 1, true) or out:find("Couldn't connect", 1, true),
        (what or "") .. " " .. out)
end

local function python(sandbox, source)
    return sh(sandbox, "timeout 35 python3 - <<'END'\n" .. source .. "\nEND")
end

local function notes(sandbox)
    return table.concat(sandbox:get_info().notes, "\n")
end

-- What its owner can read.
local function own_log(on, sandbox)
    local _, _, text = rig.request { method = "GET",
        url = on.options.api_url .. "/sandboxes/" .. sandbox.sandbox_id .. "/logs",
        headers = { ["X-API-Key"] = on.options.api_key } }
    return text
end

-- ---- names and addresses --------------------------------------------------------------------

t.test("a name that is allowed is reached, any other is reset and told", function()
    local on, port = engine(), server()
    local sandbox = closed(on, "allowed.test")
    t.eq(curl(sandbox, "http://allowed.test:" .. port), "hello allowed.test:" .. port .. "\n")
    local began = task.now()
    is_reset(curl(sandbox, "http://other.test:" .. port))
    is_reset(curl(sandbox, "http://one.allowed.test:" .. port))
    t.ok(task.now() - began < 5, "it fails at once")
    local line = ("sandbox %s: connection refused by policy: other%%.test:%d;" ..
        " allow it with allow_out"):format(sandbox.sandbox_id, port)
    t.match(rig.log(on.home), line)
    t.match(own_log(on, sandbox), "connection refused by policy: other%.test:" .. port)
    t.match(notes(sandbox), "connections? refused by policy, the last: one.allowed.test:" .. port)
end)

t.test("the machine's loopback and private addresses are not reached by an open sandbox", function()
    local on, port = engine(), server()
    local sandbox = create(on)
    for _, url in ipairs { "http://private.test:" .. port, "http://" .. SERVER .. ":" .. port,
        "http://169.254.169.254/", "http://metadata.test/", "http://10.1.2.3/", "http://[fd00::1]/",
        "http://[fe80::1]/", "http://[::ffff:127.77.30.1]:" .. port } do
        local began = task.now()
        local out = curl(sandbox, "'" .. url .. "'")
        t.match(out, "^curl: %(%d+%)", url)
        t.ok(task.now() - began < 5, url .. " fails at once")
    end
    t.match(rig.log(on.home), "private%.test:%d+ %(127%.77%.30%.1 is not a public address%)")
end)

t.test("private addresses are reached when they are named, metadata by its address only", function()
    local on, port = engine(), server()
    local sandbox = closed(on, "private.test", "metadata.test", "*.allowed.test")
    t.match(curl(sandbox, "http://private.test:" .. port), "hello")
    is_reset(curl(sandbox, "http://one.allowed.test:" .. port))
    is_reset(curl(sandbox, "http://metadata.test/"))
    local by_address = closed(on, "127.77.30.0/24")
    t.match(curl(by_address, "http://private.test:" .. port), "hello")
    is_reset(curl(by_address, ("--resolve x.test:%d:198.51.100.7 http://x.test:%d")
        :format(port, port)))
end)

t.test("without internet access all is refused, fast", function()
    local on, port = engine(), server()
    local sandbox = create(on, { allow_internet_access = false })
    local began = task.now()
    is_reset(curl(sandbox, "http://allowed.test:" .. port))
    is_reset(curl(sandbox, "https://203.0.113.5/"))
    is_reset(curl(sandbox, "'https://[2001:db8::1]/'"))
    t.ok(task.now() - began < 5, "at once")
    t.eq(sandbox:get_info().allow_internet_access, false)
end)

t.test("a Host or SNI that names another host is refused", function()
    local on = engine()
    server(80)
    server(443)
    local sandbox = closed(on, "allowed.test")
    t.match(curl(sandbox, "http://allowed.test/"), "hello allowed.test")
    is_reset(curl(sandbox, "-H 'Host: other.test' http://allowed.test/"))
    is_reset(curl(sandbox, "-H 'Host: 169.254.169.254' http://allowed.test/"))
    t.match(rig.log(on.home), "allowed%.test:80 %(it asked for other%.test%)")
    -- The name is resolved here, whatever the sandbox believes.
    t.match(curl(sandbox, "--resolve allowed.test:80:203.0.113.9 http://allowed.test/"),
        "hello allowed.test")
    is_reset(curl(sandbox, "--resolve other.test:80:203.0.113.9 http://other.test/"))
    -- Behind 443 stands a server without TLS: an error of TLS is a connection.
    t.match(curl(sandbox, "-k https://allowed.test/"), "wrong version number")
    t.match(python(sandbox, [[
import socket, ssl
c = ssl._create_unverified_context()
for name in ("other.test", "allowed.test"):
    try:
        c.wrap_socket(socket.create_connection(("allowed.test", 443), 10), server_hostname=name)
    except OSError as e:
        print(name, type(e).__name__)
]]), "other.test Connection%a+Error\nallowed.test SSLError")
    t.match(rig.log(on.home), "allowed%.test:443 %(it asked for other%.test%)")
end)

-- ---- DNS ------------------------------------------------------------------------------------

local ASK <const> = [[
import os, random, socket, struct
def ask(name, kind, tcp=False, where="192.0.2.53"):
    q = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0)
    q += b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"
    q += struct.pack("!2H", kind, 1)
    s = socket.socket(type=socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    s.settimeout(15)
    s.connect((where, 53))
    s.sendall(struct.pack("!H", len(q)) + q if tcp else q)
    a = s.recv(4096)
    a = a[2:] if tcp else a
    code, count = a[3] & 15, struct.unpack("!H", a[6:8])[0]
    return code, count, socket.inet_ntoa(a[-4:]) if count and kind == 1 else ""
]]

t.test("DNS: one address a name, by UDP and TCP, at any server; other types are empty", function()
    local sandbox = closed(engine(), "allowed.test")
    local out = python(sandbox, ASK .. [[
first = ask("allowed.test", 1)
print(first[:2], first[2].startswith("198.18."))
print(ask("ALLOWED.test", 1) == first, ask("allowed.test", 1, True) == first)
print(ask("allowed.test", 1, where="8.8.8.8") == first, ask("other.test", 1)[2] != first[2])
print(ask("allowed.test", 15), ask("allowed.test", 16), ask("1.0.18.198.in-addr.arpa", 12))
print(ask("bad name.test", 1)[0], ask("allowed.test", 65))
]])
    t.eq(out, "(0, 1) True\nTrue True\nTrue True\n(0, 0, '') (0, 0, '') (3, 0, '')\n3 (0, 0, '')\n")
end)

t.test("DNS: garbage is dropped and the next question answered", function()
    local sandbox = closed(engine(), "allowed.test")
    local out = python(sandbox, ASK .. [[
random.seed(1)
s = socket.socket(type=socket.SOCK_DGRAM)
s.connect(("192.0.2.53", 53))
loop = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1"
for i in range(3000):
    b = loop if i % 10 == 0 else os.urandom(random.choice([0, 1, 11, 12, 40, 512, 1400, 9000]))
    try: s.send(b)
    except OSError: pass
for b in (b"\xff\xff" + b"x" * 5000, b"\0\0", b"\0\5abcde", b"\0"):
    c = socket.create_connection(("192.0.2.53", 53), 5)
    c.settimeout(12)
    try:
        c.sendall(b)
        c.shutdown(socket.SHUT_WR)
        while c.recv(100): pass
    except OSError: pass
print(ask("allowed.test", 1)[0], ask("allowed.test", 1, True)[0])
]])
    t.eq(out, "0 0\n")
end)

t.test("a name that does not exist is not found", function()
    local out = python(create(engine()), ASK .. "print(ask('no-such-host.invalid', 1)[:2])")
    t.match(out, "^%([23], 0%)\n$") -- 2 where the machine has no resolver at all
end)

-- ---- what does not get out ------------------------------------------------------------------

t.test("UDP and ICMP fail at once; the sandbox's own addresses work", function()
    local sandbox = create(engine())
    t.eq(python(sandbox, [[
import socket, time
began = time.time()
for ip, kind in (("203.0.113.5", socket.AF_INET), ("2001:db8::1", socket.AF_INET6)):
    try:
        socket.socket(kind, socket.SOCK_DGRAM).sendto(b"x", (ip, 443))
        print("sent")
    except OSError as e:
        print("refused")
l = socket.create_server(("", 5353))
for ip in ("127.0.0.1", "192.0.2.10", "localhost"):
    socket.create_connection((ip, 5353), 5)
    print(l.accept()[1][0])
u = socket.socket(type=socket.SOCK_DGRAM)
u.bind(("127.0.0.1", 53 + 1000))
u.sendto(b"x", ("127.0.0.1", 1053))
print(u.recv(10), time.time() - began < 3)
]]), "refused\nrefused\n127.0.0.1\n192.0.2.10\n127.0.0.1\nb'x' True\n")
end)

t.test("root inside cannot change the network", function()
    local on = engine()
    local out = closed(on).commands:run([[
for c in 'ip route del default' 'ip link set lo down'; do $c 2>&1; done
python3 -c '
import socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) # nfnetlink
s.send(struct.pack("=IHHIIBBH", 20, 10 << 8 | 2, 5, 1, 0, 0, 0, 0)) # delete all tables
print("nft", struct.unpack_from("=i", s.recv(100), 16)[0])']], { user = "root" }).stdout
    t.eq(out, "RTNETLINK answers: Operation not permitted\n"
        .. "RTNETLINK answers: Operation not permitted\nnft -1\n")
end)

t.test("a host that does not answer and a port that is closed end soon", function()
    local on = engine()
    local sandbox = closed(on, "allowed.test")
    is_reset(curl(sandbox, "http://allowed.test:1/"))
    t.match(rig.log(on.home), "no connection to allowed%.test:1: connect: Connection refused")
    -- The engine's own socket, asked for directly.
    is_reset(curl(sandbox, "http://127.0.0.1:64053/"))
end)

-- ---- many, large, long ----------------------------------------------------------------------

t.test("many connections at once to several names", function()
    local on, port = engine(), server()
    local names = { "many0.test", "many1.test", "many2.test", "many3.test", "many4.test" }
    local sandbox = closed(on, table.unpack(names))
    local out = python(sandbox, ([[
import concurrent.futures, urllib.request
def get(i):
    url = "http://many%%d.test:%d/" %% (i %% 5)
    return urllib.request.urlopen(url, timeout=20).read().decode().split(":")[0][6:] == \
        "many%%d.test" %% (i %% 5)
with concurrent.futures.ThreadPoolExecutor(60) as pool:
    print(sum(pool.map(get, range(400))))
]]):format(port))
    t.eq(out, "400\n")
end)

t.test("large bodies pass both ways, side by side", function()
    local on, port = engine(), server()
    local sandbox = closed(on, "allowed.test")
    local url = "http://allowed.test:" .. port
    local out = sh(sandbox, ([[
curl -sS -m 35 %s/big | tr -d '\n' | sha256sum | cut -c1-64 > /tmp/got &
head -c %d /dev/zero | tr '\0' x | curl -sS -m 35 -T - %s/take
wait
cat /tmp/got
yes 0123456789abcdef | tr -d '\n' | head -c %d | sha256sum | cut -c1-64
]]):format(url, SIZE * MIB, url, SIZE * MIB))
    local taken, got, want = out:match("^([^\n]*)\n(%x+)\n(%x+)\n$")
    t.eq(taken, ("%d true"):format(SIZE * MIB), out)
    t.eq(got, want)
end)

t.test("the end of a sandbox ends its connections", function()
    local on, port = engine(), server()
    local sandbox = closed(on, "allowed.test")
    sh(sandbox, "curl -sS http://allowed.test:" .. port .. "/slow >/dev/null 2>&1 &")
    task.sleep(0.5)
    local began = task.now()
    sandbox:kill()
    t.ok(task.now() - began < 5, "kill waits for no connection")
end)

-- ---- the policy -----------------------------------------------------------------------------

t.test("wrong lists are refused with E2B's words", function()
    local function refused(network)
        local e = t.raises(nil, Sandbox.create, { timeout = 30, network = network,
            headers = world.ALONE })
        t.eq(e.status, 400)
        return e.message
    end
    t.match(refused { deny_out = { "example.com" } }, "invalid denied CIDR example%.com")
    t.match(refused { deny_out = { "0.0.0.0" } }, "invalid denied CIDR 0%.0%.0%.0")
    t.match(refused { allow_out = { "::" } }, "invalid allowed address ::")
    t.match(refused { allow_out = { "1.2.3.4/40" } }, "invalid allowed address 1%.2%.3%.4/40")
    t.match(refused { allow_out = { "example.com" } }, "you must include 'ALL_TRAFFIC' in deny out")
end)

t.test("a new policy holds for new connections; validation comes before existence", function()
    local on, port = engine(), server()
    local sandbox = create(on, { allow_internet_access = false })
    local url = "http://allowed.test:" .. port
    is_reset(curl(sandbox, url))
    sandbox:update_network { allow_out = { "allowed.test" }, deny_out = { ALL } }
    t.match(curl(sandbox, url), "hello")
    t.eq(sandbox:get_info().network.allow_out, { "allowed.test" })
    sandbox:update_network { allow_out = { "other.test" }, deny_out = { ALL } }
    is_reset(curl(sandbox, url))
    sandbox:update_network {}
    is_reset(curl(sandbox, url)) -- open, and a private address
    local status, answer = rig.api("PUT", "/sandboxes/inosuchsandbox000000/network",
        { denyOut = { "x" } })
    t.eq({ status, answer.message }, { 400, "invalid denied CIDR x" })
    t.eq(rig.api("PUT", "/sandboxes/inosuchsandbox000000/network", {}), 404)
end)

t.test("a build step has the network; what it is refused is in its error", function()
    local on = engine()
    local log = select(2, world.build(world.template()
        :run_cmd("getent ahostsv4 unreachable.test; cat /etc/resolv.conf"),
        world.unique("net"), world.at(on, { skip_cache = true })))
    t.eq(world.count(log, "198.18."), 3)
    t.eq(world.count(log, "nameserver 192.0.2.53"), 1)
end)

t.test("a build step has the machine's proxy, also one on its loopback", function()
    local port = server(0, "127.0.0.1")
    local proxy = "http://127.0.0.1:" .. port
    local on = world.engine { http_proxy = proxy, no_proxy = "inside.test" }
    local log = select(2, world.build(world.template()
        :run_cmd("curl -sS http://somewhere.test/; echo $no_proxy; env | sort > ~/env")
        :run_cmd("curl -sS " .. proxy .. " || echo not by its address"),
        world.unique("proxy"), world.at(on, { skip_cache = true })))
    t.eq(world.count(log, "hello somewhere.test"), 1)
    t.eq(world.count(log, "inside.test,localhost,127.0.0.1,::1"), 1)
    t.eq(world.count(log, "not by its address"), 2) -- the instruction and its output
    local sandbox = create(on)
    t.eq(sandbox.commands:run("env | grep -ic proxy || true").stdout, "0\n")
    is_reset(curl(sandbox, "http://machine.e2b.internal:" .. port))
end)

t.test("a task that fails for a refused host says which", function()
    local dir = t.tmpdir()
    assert(fs.write_file(dir .. "/task.sh", "curl -sS https://example.com && exit 0; exit 3\n"))
    local code, out = child.lua(([[
        local r = require("e2b").agent.run_code_in_sandbox("%s/task.sh")
        print("ended with " .. r.exit_code)
    ]]):format(dir)):wait(30)
    t.eq(code, 0, out)
    t.match(out, "connections? refused by policy, the last: example.com:443; allow with allow_out")
    t.match(out, "ended with 3")
end)

t.test("an engine that is killed leaves nothing, and the next one serves", function()
    local on, port = engine(), server()
    local sandbox = Sandbox.create("base", world.at(on, { network = {
        allow_out = { "allowed.test" }, deny_out = { ALL } } }))
    sh(sandbox, "curl -sS http://allowed.test:" .. port .. "/slow >/dev/null 2>&1 &")
    local pid = rig.info(on.home).pid
    os.execute("kill -9 " .. pid)
    rig.await("the engine does not die", 5, function()
        return not process.alive(pid)
    end)
    on.start()
    t.match(curl(closed(on, "allowed.test"), "http://allowed.test:" .. port), "hello")
end)
