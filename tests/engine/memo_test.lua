--- The memo app in real sandboxes: the page in a browser, its API by raw requests, and the app as
--- somebody starts it. Server and page are what its tape writes.
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local checks = require "memo_checks"
local child = require "child"
local fs = require "e2b_fs"
local json = require "e2b_json"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"
local tape_files = require "tape_files"
local task = require "e2b_task"
local webdriver = require "webdriver"

local TAPE = "scripts/tasks/memo.tape.jsonl"

t.before(rig.warm_up)
t.before(function()
    local template, opts = dofile("templates/memo_app.lua")
    Template.build(template, opts)
end)

--- One request; a body that is no string goes as JSON.
local function ask(url, method, path, body, headers)
    headers = headers or {}
    if type(body) == "table" then
        body = json.encode(body)
    end
    if body and not headers["Content-Type"] then
        headers["Content-Type"] = "application/json"
    end
    local status, got, text = rig.request {
        method = method, url = url .. path, body = body, headers = headers,
    }
    return status, text ~= "" and (json.decode(text) or text) or nil, got
end

local function answers(url)
    child.await("the server does not answer", 20, function()
        local ok, status = pcall(ask, url, "GET", "/api/memos")
        return ok and status == 200
    end)
end

--- A sandbox with the server, as memo_checks wants it.
local function open()
    local sandbox = Sandbox.create("memo_app", {timeout = 120, allow_internet_access = false})
    t.cleanup(function()
        sandbox:kill()
    end)
    for name, text in pairs(tape_files.files(TAPE)) do
        sandbox.files:write("/home/user/app/" .. name, text)
    end
    local world = {url = sandbox:get_url(3000), sandbox = sandbox}
    function world.api(method, path, body)
        return ask(world.url, method, "/api/memos" .. path, body)
    end
    function world.stop()
        sandbox.commands:run("mv server.py away && pkill -KILL -x python3")
    end
    function world.start()
        sandbox.commands:run("mv away server.py")
        answers(world.url)
    end
    function world.restart()
        world.stop()
        world.start()
    end
    answers(world.url)
    return world
end

for _, check in ipairs(checks) do
    t.test("the memo app " .. check.name, function()
        local world = open()
        local browser <close> = webdriver.open(check.look)
        browser:go(world.url .. "/")
        check.run(browser, world)
    end)
end

-- ---- the API ---------------------------------------------------------------------------------

t.test("the memo API does what it says", function()
    local url = open().url
    local status, memo, headers = ask(url, "POST", "/api/memos", {text = " a\r\nb\0\27 "})
    t.eq({status, memo.text, memo.revision, headers.location},
        {201, "a\nb", 1, "/api/memos/" .. memo.id})
    t.eq(headers["cache-control"], "no-store")
    local path = "/api/memos/" .. memo.id
    t.eq({ask(url, "GET", path)}, {200, memo, select(3, ask(url, "GET", path))})
    local _, edited = ask(url, "PUT", path, {text = "c", revision = 1})
    t.eq({edited.text, edited.revision, edited.created}, {"c", 2, memo.created})
    local conflict, body = ask(url, "PUT", path, {text = "d", revision = 1})
    t.eq({conflict, body.memo.text}, {409, "c"})
    t.eq(ask(url, "DELETE", path), 204)
    t.eq(ask(url, "GET", path), 404)
    t.eq(ask(url, "DELETE", path), 404)
    t.eq(ask(url, "PUT", path, {text = "x"}), 404)
    t.eq(ask(url, "POST", path .. "/restore"), 200)
    t.eq(select(2, ask(url, "GET", "/api/memos?q=C")).found, 1)
    t.eq(select(2, ask(url, "GET", "/api/memos?q=x")).memos, {})
    t.eq(ask(url, "HEAD", "/"), 200)
    local _, page, about = ask(url, "GET", "/")
    t.match(page, "^<!doctype html>")
    t.eq({about["content-type"], about["x-content-type-options"]},
        {"text/html; charset=utf-8", "nosniff"})
    t.match(about["content-security-policy"], "default%-src 'none'; script%-src 'sha256%-")
end)

t.test("the memo API makes one memo of one key", function()
    local url = open().url
    local first, memo = ask(url, "POST", "/api/memos", {text = "x", key = "abcdefgh"})
    local second, same = ask(url, "POST", "/api/memos", {text = "y", key = "abcdefgh"})
    t.eq({first, second, same}, {201, 200, memo})
    t.eq(select(2, ask(url, "GET", "/api/memos")).total, 1)
end)

local BAD = {
    {400, "POST", "/api/memos", "{"},
    {400, "POST", "/api/memos", "[]"},
    {400, "POST", "/api/memos", "\xff"},
    {400, "POST", "/api/memos", ("["):rep(100000)},
    {400, "POST", "/api/memos", "{}"},
    {400, "POST", "/api/memos", {text = 7}},
    {400, "POST", "/api/memos", {text = " \n\t"}},
    {400, "POST", "/api/memos", '{"text": "\\ud800"}'},
    {400, "POST", "/api/memos", {text = "x", key = "short"}},
    {400, "POST", "/api/memos", {text = "x", key = ("k"):rep(65)}},
    {400, "PUT", "/api/memos/1", {text = "x", revision = "1"}},
    {400, "GET", "/api/memos?limit=0"},
    {400, "GET", "/api/memos?limit=1001"},
    {400, "GET", "/api/memos?limit=x"},
    {400, "GET", "/api/memos?q=%FF"},
    {400, "GET", "/api/memos?q=" .. ("x"):rep(201)},
    {400, "GET", "/api/memos?" .. ("a=1&"):rep(50)},
    {404, "GET", "/memos.db"},
    {404, "GET", "/server.py"},
    {404, "GET", "/%2e%2e/%2e%2e/etc/passwd"},
    {404, "GET", "/..%2fserver.py"},
    {404, "GET", "//etc/passwd"},
    {404, "GET", "/api/memos/0x1"},
    {404, "GET", "/api/memos/" .. ("9"):rep(15)},
    {404, "GET", "/api/memos/" .. ("9"):rep(30)},
    {404, "POST", "/api/memos/1/restore"},
    {405, "POST", "/", "{}"},
    {405, "PATCH", "/api/memos", "{}"},
    {405, "DELETE", "/api/memos"},
    {413, "POST", "/api/memos", {text = ("x"):rep(10001)}},
    {413, "POST", "/api/memos", (" "):rep(128 * 1024 + 1)},
    {413, "POST", "/api/memos", (" "):rep(4 * 1024 * 1024)},
    {415, "POST", "/api/memos", "text=x", {["Content-Type"] = "text/plain"}},
}

t.test("the memo API refuses what is wrong, and lives on", function()
    local url = open().url
    for _, bad in ipairs(BAD) do
        local status, body = ask(url, table.unpack(bad, 2))
        local what = bad[2] .. " " .. bad[3]:sub(1, 60) .. " " .. t.show(bad[4]):sub(1, 40)
        t.eq(status, bad[1], what)
        t.ok(type(body) == "table" and #body.error > 0, what .. ": no error text")
    end
    t.eq(select(3, ask(url, "DELETE", "/api/memos")).allow, "GET, POST, HEAD")
    t.eq(select(2, ask(url, "GET", "/api/memos")).total, 0)
end)

t.test("the memo server takes malformed requests and clients who go away", function()
    local world = open()
    local out = world.sandbox.commands:run([[python3 - <<'END'
import socket

def talk(data):
    with socket.create_connection(("localhost", 3000), 5) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: s.recv(65536), b"")).split(b"\r\n")[0].decode()

POST = b"POST /api/memos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
print(talk(b"nonsense\r\n\r\n"))
print(talk(b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n"))
print(talk(POST + b"\r\n{}"))
print(talk(POST + b"Content-Length: -1\r\n\r\n{}"))
print(talk(POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"))
print(talk(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
print(talk(POST + b"Content-Length: 99999999999\r\n\r\n{}"))
print(talk(POST + b"Content-Length: 50\r\n\r\n{}"))
print(talk(b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n"))
print(talk(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n"))
# A body that was refused is not taken for a request.
print(talk(POST[:-2] + b"x\r\nContent-Length: 36\r\n\r\nDELETE /api/memos/1 HTTP/1.1\r\nHost: x"
           + b"GET /api/memos HTTP/1.1\r\nHost: x\r\n\r\n"))
END]]).stdout
    t.eq((out:gsub("HTTP/1.1 (%d+)[^\n]*\n", "%1 ")), "400 501 411 400 400 411 413 \n414 431 415 ")
    t.eq(world.api("GET", ""), 200)
end)

t.test("the memo server handles clients at the same time, and keeps all over a kill -9", function()
    local world = open()
    local jobs = {}
    for i = 1, 30 do
        jobs[i] = task.spawn(function()
            return (world.api("POST", "", {text = "memo " .. i}))
        end)
    end
    for i = 1, 30 do
        t.eq(jobs[i]:join(20), 201)
    end
    -- One who sends nothing holds up nobody.
    world.sandbox.commands:run([[
        for i in 1 2 3 4 5; do exec {s}<>/dev/tcp/localhost/3000; printf 'POST / HTTP/1.1\r\n' >&$s
        done
        curl -fsS -m 3 localhost:3000/api/memos >/dev/null]])
    world.restart()
    local _, answer = world.api("GET", "")
    t.eq(answer.total, 30)
end)

-- ---- the app ---------------------------------------------------------------------------------

local function run_app(...)
    return child.start({process.exe(), "apps/memo.lua", ...},
        {dir = fs.cwd(), env = {E2BLUA_MODEL = "offline"}}):wait(50)
end

t.test("the memo app is made by its tape, each call of it works, and it is used", function()
    local code, out = run_app()
    t.eq(code, 0, out)
    local url, id = t.match(out, "(http://3000%-(%w+)%.[%w.]+:%d+)")
    t.cleanup(function()
        Sandbox.kill(id)
    end)
    t.match(out, "offline: replaying a scripted conversation")
    t.ok(not out:find("tape:", 1, true), out)
    t.eq(select(2, ask(url, "GET", "/api/memos")).total, 0)
    local sandbox = Sandbox.connect(id)
    for name, text in pairs(tape_files.files(TAPE)) do
        t.eq(sandbox.files:read("/home/user/app/" .. name), text, name)
    end
    local browser <close> = webdriver.open()
    browser:go(url .. "/")
    browser:keys("nwritten in the app")
    browser:chord(webdriver.CONTROL, webdriver.ENTER)
    child.await("the memo is not stored", 10, function()
        return select(2, ask(url, "GET", "/api/memos")).total == 1
    end)
    sandbox.commands:run("pkill -x python3")
    answers(url)
    browser:go(url .. "/")
    child.await("the memo is not shown after the restart", 10, function()
        return browser:text("#list"):find("written in the app", 1, true)
    end)
end)

t.test("apps/memo.lua --once leaves no sandbox, and other words are refused", function()
    local code, out = run_app("--once")
    t.eq(code, 0, out)
    t.match(out, "fetched / %(200, %d+ bytes%), /api/memos %(200, %d+ bytes%);" ..
        " the sandbox is gone")
    local refused, why = run_app("--twice")
    t.eq(refused, 2)
    t.match(why, "memo: unknown option '%-%-twice'")
end)
