--- The HTTP client from Lua, against e2b_httpd in the same program: e2b.http for scripts and
--- e2b_httpc below it.
local t = require "tests"
local http = require "e2b.http"
local httpc = require "e2b_httpc"
local httpd = require "e2b_httpd"
local json = require "e2b_json"
local task = require "e2b_task"

local routes = {}
local released = task.cond()

function routes.hello(req)
    req:reply(200, {["Content-Type"] = "text/plain", ["X-Two"] = "a"}, "hello")
end

function routes.show(req)
    local body = assert(req:body())
    req:reply(200, nil, json.encode {
        method = req.method, headers = req.headers, body = body,
    })
end

function routes.echo(req)
    req:begin(200)
    for chunk in function() return req:read() end do
        if not req:write(chunk) then
            return
        end
    end
    req:finish()
end

function routes.big(req)
    local block = ("x"):rep(65536)
    req:begin(200)
    for _ = 1, 64 do
        if not req:write(block) then
            return
        end
    end
    req:finish()
end

function routes.hold(req)
    routes.held = (routes.held or 0) + 1
    released:wait(30)
    req:reply(200)
end

function routes.stall(req)
    req:begin(200)
    req:write("abc")
    released:wait(30)
end

function routes.moved(req)
    req:reply(302, {Location = "/hello"})
end

function routes.missing(req)
    req:reply(404, nil, "no such thing")
end

local function handler(req)
    routes[req.path:match("^/(%w+)")](req)
end

--- A server that lives as long as the test.
local function serve(opts)
    opts = opts or {}
    opts.handler = handler
    local srv = assert(httpd.listen(opts))
    t.cleanup(function()
        released:broadcast()
        srv:close()
    end)
    return "http://127.0.0.1:" .. tostring(srv.port), srv
end

local function no_requests()
    collectgarbage()
    t.eq(httpc.active(), 0, "running requests")
end

t.test("gets a whole answer", function()
    local url = serve()
    local r = http.get(url .. "/hello")
    t.eq(r.status, 200)
    t.eq(r.body, "hello")
    t.eq(r.headers["content-type"], "text/plain")
    t.eq(http.get {url = url .. "/hello"}.body, "hello")
    t.eq(http.request {url = url .. "/hello", method = "HEAD"}.body, "")
    t.eq(http.get(url .. "/missing").status, 404)
    no_requests()
end)

t.test("sends method, headers and body", function()
    local url = serve() .. "/show"
    local seen = json.decode(http.post(url, {body = "a\0b", headers = {["X-Key"] = "k"}}).body)
    t.eq(seen.method, "POST")
    t.eq(seen.body, "a\0b")
    t.eq(seen.headers["x-key"], "k")
    t.eq(seen.headers["content-type"], nil)
    seen = json.decode(http.request {url = url, json = {a = {1, 2}}, headers = {{"A", "b"}}}.body)
    t.eq(seen.method, "POST")
    t.eq(seen.body, '{"a":[1,2]}')
    t.eq(seen.headers["content-type"], "application/json")
    t.eq(seen.headers.a, "b")
    seen = json.decode(http.request {
        url = url, method = "PUT", json = false, headers = {["content-type"] = "x/y"},
    }.body)
    t.eq(seen.method, "PUT")
    t.eq(seen.body, "false")
    t.eq(seen.headers["content-type"], "x/y")
end)

t.test("follows redirects only when asked", function()
    local url = serve() .. "/moved"
    t.eq(http.get(url).status, 302)
    t.eq(http.get(url, {follow = true}).body, "hello")
end)

t.test("bounds the body it keeps", function()
    local url = serve() .. "/big"
    t.eq(#http.get(url).body, 64 * 65536)
    local e = t.raises("protocol", http.get, url, {max_body = 100000})
    t.match(e.message, "larger than max_body, 100000 bytes")
    t.match(e.remedy, "http.open")
    no_requests()
end)

t.test("streams both ways", function()
    local url = serve() .. "/echo"
    local s <close> = http.open {url = url, upload = true}
    t.eq((s:wait()), 200)
    for i = 1, 10 do
        s:write("ping " .. i)
        t.eq(s:read(), "ping " .. i)
    end
    s:finish()
    t.eq(s:read(), nil)
    t.eq(s:read(), nil)
    t.raises("invalid_argument", s.write, s, "more")
    s:close()
    s:close()
    t.raises("invalid_argument", s.read, s)
end)

t.test("writes more than fits while another task reads", function()
    local url = serve() .. "/echo"
    local s <close> = http.open {url = url, upload = true, length = 8 << 20}
    local writer = task.spawn(function()
        s:write(("y"):rep(5 << 20)):write(("z"):rep(3 << 20)):finish()
    end)
    local size = 0
    for chunk in s:chunks() do
        size = size + #chunk
    end
    writer:join()
    t.eq(size, 8 << 20)
end)

local function file_of(bytes)
    local path = t.tmpdir() .. "/file"
    local f = assert(io.open(path, "w+b"))
    t.cleanup(function()
        if io.type(f) == "file" then
            f:close()
        end
    end)
    f:write(bytes)
    f:seek("set", 0)
    return f
end

t.test("moves files without strings, both ways", function()
    local bytes = ("0123456789abcdef"):rep(1 << 16)
    local from, to = file_of("skipped" .. bytes), file_of("")
    t.eq(from:read(7), "skipped")
    local x <close> = assert(httpc.open {url = serve() .. "/echo", method = "POST", upload = true,
        length = #bytes})
    local sender = task.spawn(function()
        local left = #bytes
        while left > 0 do
            left = left - assert(x:send(from, left))
        end
        x:finish()
    end)
    t.eq((x:wait()), 200)
    t.eq(x:save(to), #bytes)
    sender:join()
    to:seek("set", 0)
    t.ok(to:read("a") == bytes, "not the same bytes")
    t.eq(x:save(to), 0)
    t.raises("invalid_argument", x.send, x, from, 1)
end)

t.test("says what is wrong with a file", function()
    local url = serve()
    local shut, short = file_of(""), file_of("ab")
    shut:close()
    do
        local x <close> = assert(httpc.open {url = url .. "/show", method = "POST", upload = true,
            length = 3})
        t.raises("invalid_argument", x.send, x, shut, 1)
        t.raises("invalid_argument", x.send, x, short, 4)
        t.raises("invalid_argument", x.send, x, short, 0)
        t.ok(not pcall(x.send, x, "no file", 1))
        t.eq(x:send(short, 3), 2)
        t.eq(x:send(short, 1), 0)
        x:finish()
        local _, e = x:wait()
        t.eq(e.kind, "invalid_argument")
    end
    local x <close> = assert(httpc.open {url = url .. "/big"})
    t.raises("invalid_argument", x.save, x, shut)
    local full <close> = assert(io.open("/dev/full", "wb"))
    full:setvbuf("no")
    local n, e = x:save(full)
    t.eq(n, nil)
    t.eq(e.kind, "not_enough_space")
end)

t.test("keeps to the announced length", function()
    local url = serve() .. "/show"
    local s <close> = http.open {url = url, upload = true, length = 3}
    local e = t.raises("invalid_argument", s.write, s, "abcd")
    t.match(e.message, "4 bytes are more than the 3")
    s:write("ab"):finish()
    t.match(t.raises("invalid_argument", s.wait, s).message, "1 bytes short")
end)

t.test("has deadlines for the head and for silence", function()
    local url = serve()
    local e = t.raises("timeout", http.get, url .. "/hold", {timeout = 0.05})
    t.eq(e.deadline, "request")
    t.eq(e.op, "http.get")
    t.eq(e.retryable, false)
    e = t.raises("timeout", http.get, url .. "/stall", {idle_timeout = 0.05})
    t.eq(e.deadline, "idle")
    no_requests()
end)

t.test("says why nobody answers, without secrets", function()
    local url, srv = serve()
    srv:close()
    url = url:gsub("//", "//user:secret@") .. "/x?key=secret"
    local e = t.raises("network", http.get, url, {headers = {Key = "secret"}})
    t.match(e.message, "cannot connect to 127%.0%.0%.1:%d+: Connection refused")
    t.eq(e.retryable, true)
    t.ok(e.errno)
    t.ok(not e.message:find("secret"))
    e = t.raises("network", http.get, "http://none.invalid/?secret")
    t.match(e.message, "none.invalid")
end)

t.test("talks to unix sockets", function()
    local path = t.tmpdir() .. "/s"
    serve {unix = path}
    t.eq(http.get("http://engine/hello", {unix = path}).body, "hello")
end)

t.test("refuses bad arguments", function()
    local function bad(text, fn, ...)
        t.match(t.raises("invalid_argument", fn, ...).message, text)
    end
    bad("url must be", http.get)
    bad('no option "tiemout"; did you mean "timeout"', http.get, "http://h/", {tiemout = 1})
    bad("no URL to request", http.get, "nothing")
    bad("line end", http.get, "http://h/", {headers = {A = "b\nc"}})
    bad("characters that HTTP does not", http.get, "http://h/", {headers = {["A b"] = "c"}})
    bad("body or json", http.post, "http://h/", {body = "", json = 1})
    bad("HEAD", http.request, {url = "http://h/", method = "HEAD", body = "x"})
    bad("follow needs", http.open, {url = "http://h/", upload = true, follow = true})
    bad("unknown option 'x'", httpc.open, {url = "http://h/", x = 1})
    bad("timeout must be a number", httpc.open, {url = "http://h/", timeout = "1"})
    bad("seconds above 0", httpc.open, {url = "http://h/", timeout = 0})
    bad("needs a url", httpc.open, {})
    bad("only with upload", httpc.open, {url = "http://h/", length = 3})
    bad("a name and a string", httpc.open, {url = "http://h/", headers = {"x"}})
    bad("use ':'", http.open({url = serve() .. "/hello"}).read, {})
    t.fails("invalid_argument", httpc.open, {url = "nothing"})
    no_requests()
end)

t.test("ends the exchange of a cancelled task", function()
    local url = serve() .. "/hold"
    routes.held = 0
    local function wait_for(n)
        while routes.held < n do
            task.sleep(0.01)
        end
    end
    local running = task.spawn_quiet(http.get, url)
    wait_for(1)
    t.eq(httpc.active(), 1)
    running:cancel()
    t.raises("cancelled", running.join, running)
    t.eq(httpc.active(), 0)
    -- nobody closes this one but the collector
    do
        local forgetful = task.spawn_quiet(function()
            http.open({url = url}):wait()
        end)
        wait_for(2)
        forgetful:cancel()
        t.raises("cancelled", forgetful.join, forgetful)
    end
    collectgarbage()
    collectgarbage()
    t.eq(httpc.active(), 0)
end)

t.test("tells a waiting task that another closed the request", function()
    local x = assert(httpc.open {url = serve() .. "/hold"})
    local reader = task.spawn(function()
        return x:wait()
    end)
    task.sleep(0.02)
    t.raises("invalid_argument", x.read, x) -- one reader at a time
    x:close()
    local status, e = reader:join()
    t.eq(status, nil)
    t.eq(e.kind, "cancelled")
    t.raises("invalid_argument", x.wait, x)
end)

t.test("makes 200 requests at once over reused connections", function()
    local url, srv = serve()
    local tasks, connections = {}, 0
    for i = 1, 200 do
        tasks[i] = task.spawn(function()
            for _ = 1, 3 do
                t.eq(http.get(url .. "/hello").body, "hello")
            end
            connections = math.max(connections, srv:connections())
        end)
    end
    for _, running in ipairs(tasks) do
        running:join()
    end
    t.ok(connections <= 210, "connections: " .. connections)
    no_requests()
end)
