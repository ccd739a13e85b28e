local t = require "tests"
local json = require "e2b_json"
local task = require "e2b_task"
local httpc = require "e2b_httpc"
local fake_e2b = require "fake_e2b"
local Error = require "e2b.error"

local function start()
    local fake = fake_e2b.start()
    fake.files["/home/user/a.txt"] = { data = "text\n" }
    fake.files["/home/user/dir"] = { dir = true }
    fake.files["/home/user/dir/b"] = { data = "\0\255binary" }
    fake.files["/home/user/empty"] = { data = "" }
    local sbx = fake:sandbox()
    return fake, sbx.files, sbx
end

-- ---- reading -------------------------------------------------------------------------------

t.test("read gives the bytes", function()
    local fake, files, sbx = start()
    t.eq(files:read("a.txt"), "text\n")
    t.eq(files:read("/home/user/dir/b", { format = "bytes" }), "\0\255binary")
    t.eq(files:read { path = "empty", format = "text" }, "")
    local request = fake:last("GET", "/files")
    t.eq(request.target, "/files?path=empty")
    t.eq(request.headers["e2b-sandbox-id"], sbx.sandbox_id)
    t.eq(request.headers["x-access-token"], fake.sandboxes[sbx.sandbox_id].token)
    files:read("a.txt", { user = "root" })
    t.eq(fake:last("GET", "/files").target, "/files?path=a.txt&username=root")
end)

t.test("paths may hold anything but NUL", function()
    local fake, files = start()
    local path = "/home/user/new\nline ü%?&#+ \255"
    files:write(path, "x")
    t.eq(fake.files[path].data, "x")
    t.eq(files:read(path), "x")
    t.raises("invalid_argument", files.read, files, "a\0b")
end)

t.test("read errors", function()
    local fake, files = start()
    local e = t.raises("file_not_found", files.read, files, "/nope")
    t.ok(Error.is(e, "not_found"))
    t.match(e.message, "files%.read: path '/nope' does not exist")
    t.eq(e.status, 404)
    e = t.raises("invalid_argument", files.read, files, "dir")
    t.match(e.message, "is a directory")
    e = t.raises("invalid_argument", files.read, "a.txt")
    t.match(e.message, "use ':', as in sandbox%.files:read")
    t.raises("invalid_argument", files.read, files)
    t.raises("invalid_argument", files.read, files, "a.txt", { format = "json" })
    local kinds = { [401] = "authentication", [429] = "rate_limit", [500] = "sandbox" }
    for status, kind in pairs(kinds) do
        fake.override["GET /files"] = function(req)
            fake_e2b.reply_error(req, status, "why")
        end
        e = t.raises(kind, files.read, files, "a.txt")
        t.match(e.message, "why")
    end
end)

t.test("a stream comes piece by piece", function()
    local fake, files = start()
    fake.files["/home/user/big"] = { data = ("0123456789"):rep(200000) }
    local stream = files:read("big", { format = "stream" })
    local pieces = {}
    for piece in stream do
        pieces[#pieces + 1] = piece
    end
    t.ok(#pieces > 1)
    t.ok(table.concat(pieces) == fake.files["/home/user/big"].data)
    t.eq(stream:read(), nil)
    stream:close()
    stream:close()
    do
        local open <close> = files:read("big", { format = "stream" })
        t.ok(#open:read() > 0)
    end
    for piece in files:read("big", { format = "stream" }) do
        t.ok(#piece > 0)
        if piece then
            break
        end
    end
    t.eq(httpc.active(), 0)
    t.raises("file_not_found", files.read, files, "nope", { format = "stream" })
end)

t.test("a stream is saved into an open file", function()
    local fake, files = start()
    fake.files["/home/user/big"] = { data = ("0123456789"):rep(200000) }
    local f <close> = assert(io.open(t.tmpdir() .. "/big", "w+b"))
    local stream = files:read("big", { format = "stream" })
    local first = stream:read()
    t.eq(stream:save(f), 2000000 - #first)
    t.eq(stream:save(f), 0)
    f:seek("set")
    t.ok(first .. f:read("a") == fake.files["/home/user/big"].data)
    t.eq(httpc.active(), 0)
    local again <close> = files:read("big", { format = "stream" })
    t.raises("invalid_argument", again.save, again, "/a/path")
    local full <close> = assert(io.open("/dev/full", "wb"))
    full:setvbuf("no")
    local e = t.raises("not_enough_space", again.save, again, full)
    t.eq(e.op, "files.read")
end)

t.test("a download that breaks off is an error, and asks for the sandbox's health", function()
    local fake, files, sbx = start()
    fake.override["GET /files"] = function(req)
        req:begin(200, nil, 100)
        req:write("half")
        req:reset()
    end
    t.raises("network", files.read, files, "a.txt")
    t.eq(fake:count("GET", "/health"), 1)
    fake.override["GET /files"] = function(req)
        req:begin(200, nil, 100)
        req:write("half")
        task.sleep(0.05)
        fake:end_sandbox(sbx.sandbox_id)
        req:reset()
    end
    local stream = files:read("a.txt", { format = "stream" })
    local f <close> = assert(io.open(t.tmpdir() .. "/half", "w+b"))
    local e = t.raises("sandbox_not_running", stream.save, stream, f)
    t.eq(e.deadline, "sandbox")
    f:seek("set")
    t.eq(f:read("a"), "half")
end)

t.test("a download that stalls is a timeout", function()
    local fake, files = start()
    fake.override["GET /files"] = function(req)
        req:begin(200, nil, 100)
        req:write("half")
        task.sleep(0.5)
    end
    local e = t.raises("timeout", files.read, files, "a.txt", { request_timeout = 0.1 })
    t.eq(e.deadline, "idle")
    local stream = files:read("a.txt", { format = "stream", stream_idle_timeout = 0.1 })
    t.eq(stream:read(), "half")
    t.raises("timeout", stream.read, stream)
end)

-- ---- writing -------------------------------------------------------------------------------

t.test("write sends the bytes as they are", function()
    local fake, files = start()
    t.eq(files:write("/home/user/new", "a\0\255\r\n"),
        { name = "new", type = "file", path = "/home/user/new" })
    t.eq(fake.files["/home/user/new"].data, "a\0\255\r\n")
    local request = fake:last("POST", "/files")
    t.eq(request.target, "/files?path=%2Fhome%2Fuser%2Fnew")
    t.eq(request.headers["content-type"], "application/octet-stream")
    files:write { path = "empty2", data = "", user = "root" }
    t.eq(fake.files["/home/user/empty2"].data, "")
    t.eq(fake:last("POST", "/files").target, "/files?path=empty2&username=root")
end)

t.test("write streams from a function, a file and another file of the sandbox", function()
    local fake, files = start()
    local n = 0
    files:write("streamed", function()
        n = n + 1
        return n <= 100 and ("%05d"):format(n):rep(n == 3 and 0 or 1000) or nil
    end)
    t.eq(#fake.files["/home/user/streamed"].data, 99 * 5000)
    t.eq(fake:last("POST", "/files").headers["transfer-encoding"], "chunked")
    local dir = t.tmpdir()
    local f <close> = assert(io.open(dir .. "/x", "w+b"))
    f:write(("x"):rep(200000))
    f:seek("set")
    files:write("from_file", f)
    t.eq(#fake.files["/home/user/from_file"].data, 200000)
    t.eq(fake:last("POST", "/files").headers["content-length"], "200000")
    f:seek("set", 199990)
    files:write("rest", f)
    t.eq(fake.files["/home/user/rest"].data, ("x"):rep(10))
    files:write("nothing_left", f)
    t.eq(fake.files["/home/user/nothing_left"].data, "")
    local source <close> = files:read("streamed", { format = "stream" })
    files:write("copy", source)
    t.ok(fake.files["/home/user/copy"].data == fake.files["/home/user/streamed"].data)
end)

t.test("a large string comes whole, with its length", function()
    local fake, files = start()
    local data = ("0123456789abcde\n"):rep(1 << 18)
    files:write("big", data)
    t.ok(fake.files["/home/user/big"].data == data)
    t.eq(fake:last("POST", "/files").headers["content-length"], tostring(#data))
end)

t.test("write with metadata", function()
    local fake, files = start()
    local metadata = { ["my-key"] = "v 1" }
    t.eq(files:write("m", "x", { metadata = metadata }).metadata, metadata)
    t.eq(fake.files["/home/user/m"].metadata, metadata)
    t.match(t.raises("invalid_argument", files.write, files, "m", "x",
        { metadata = { ["a b"] = "v" } }).message, "not a token")
    t.match(t.raises("invalid_argument", files.write, files, "m", "x",
        { metadata = { a = "ü" } }).message, "printable ASCII")
end)

t.test("write errors", function()
    local fake, files = start()
    t.match(t.raises("invalid_argument", files.write, files, "dir", "x").message, "is a directory")
    t.raises("not_enough_space", files.write, files, "x", "too large")
    t.match(t.raises("invalid_argument", files.write, files, "x", 5).message, "data must be a")
    t.raises("invalid_argument", files.write, files, "x", { 1 })
    t.raises("invalid_argument", files.write, files, "x")
    t.raises("invalid_argument", files.write, "x", "data")
    local e = t.raises("invalid_argument", files.write, files, "x", function() return 5 end)
    t.match(e.message, "must give strings, not a number")
    e = t.raises("build", files.write, files, "x", function()
        Error.raise("build", "mine")
    end)
    t.eq(e.message, "mine")
    fake.override["POST /files"] = function(req)
        req:reply(200, nil, "[]")
    end
    t.raises("protocol", files.write, files, "x", "y")
    t.eq(httpc.active(), 0)
end)

t.test("an answer before the end of an upload is heard", function()
    local fake, files = start()
    fake.override["POST /files"] = function(req)
        fake_e2b.reply_error(req, 401, "unauthorized access")
    end
    local n = 0
    t.raises("authentication", files.write, files, "x", function()
        n = n + 1
        task.sleep(0.001)
        return n < 2000 and ("x"):rep(65536) or nil
    end)
end)

t.test("an upload that nobody takes is a timeout; a slow source is none", function()
    local fake, files = start()
    local n = 0
    files:write("slow", function()
        n = n + 1
        task.sleep(0.08)
        return n < 4 and "x" or nil
    end, { request_timeout = 0.15 })
    t.eq(fake.files["/home/user/slow"].data, "xxx")
    fake.override["POST /files"] = function()
        task.sleep(1)
    end
    local e = t.raises("timeout", files.write, files, "x", function()
        return ("x"):rep(65536)
    end, { request_timeout = 0.15 })
    t.eq(e.deadline, "request")
    t.match(e.message, "files%.write")
end)

t.test("a sandbox that ends during an upload", function()
    local fake, files, sbx = start()
    fake.override["POST /files"] = function(req)
        req:read()
        fake:end_sandbox(sbx.sandbox_id)
        req:reset()
    end
    t.raises("sandbox_not_running", files.write, files, "x", function()
        task.sleep(0.001)
        return ("x"):rep(65536)
    end)
end)

t.test("write_files sends one form where it can", function()
    local fake, files = start()
    local infos = files:write_files {
        { path = "one", data = "1\r\n--x" },
        { path = "/home/user/two", data = "\0\255" },
    }
    t.eq(infos, {
        { name = "one", type = "file", path = "/home/user/one" },
        { name = "two", type = "file", path = "/home/user/two" },
    })
    t.eq(fake.files["/home/user/one"].data, "1\r\n--x")
    t.eq(fake.files["/home/user/two"].data, "\0\255")
    t.eq(fake:count("POST", "/files"), 1)
    t.eq(fake:last("POST", "/files").target, "/files")
end)

t.test("write_files sends one by one what a form cannot hold", function()
    local fake, files = start()
    local given = { "last", nil }
    files:write_files({
        { path = "a\n\"b", data = "1" },
        { path = "c", data = function() return table.remove(given) end },
    }, { user = "root" })
    t.eq(fake.files['/home/user/a\n"b'].data, "1")
    t.eq(fake.files["/home/user/c"].data, "last")
    t.eq(fake:count("POST", "/files"), 2)
    t.eq(files:write_files({ { path = "d", data = "4" } })[1].path, "/home/user/d")
    local before = #fake.requests
    t.eq(files:write_files {}, {})
    t.eq(#fake.requests, before)
end)

t.test("write_files checks all before it writes one", function()
    local fake, files = start()
    local cases = {
        { { { path = "a" } }, "data of file 1 must be" },
        { { { path = "a", data = "" }, { data = "" } }, "path of file 2 must be" },
        { { "a" }, "file 1 must be a table" },
        { { { path = "a", data = "1" }, { path = "a", data = "2" } },
            "file 2 has the path of file 1" },
        { "a", "files must be a table" },
    }
    for _, case in ipairs(cases) do
        t.match(t.raises("invalid_argument", files.write_files, files, case[1]).message, case[2])
    end
    t.raises("invalid_argument", files.write_files, {})
    t.eq(fake:count("POST", "/files"), 0)
end)

t.test("old daemons get forms", function()
    local fake = fake_e2b.start()
    fake.envd_version = "0.5.0"
    local files = fake:sandbox().files
    files:write("a b", "1")
    files:write("ü\n", function()
        return table.remove(fake.left)
    end, { user = (function() fake.left = { "3", "2" } end)() })
    t.eq(fake.files["/home/user/a b"].data, "1")
    t.eq(fake.files["/home/user/ü\n"].data, "23")
    t.match(fake:last("POST", "/files").headers["content-type"], "^multipart/form%-data")
end)

-- ---- the tree ------------------------------------------------------------------------------

t.test("list gives entries", function()
    local fake, files = start()
    fake.files["/home/user/dir/sock"] = { data = "", type = "FILE_TYPE_UNSPECIFIED" }
    fake.files["/home/user/dir/link"] = { data = "", link = "/home/user/a.txt" }
    local list = files:list("dir")
    t.eq(#list, 2)
    t.eq(list[1], {
        name = "b",
        type = "file",
        path = "/home/user/dir/b",
        size = 8,
        mode = 420,
        permissions = "-rw-r--r--",
        owner = "user",
        group = "user",
        modified_time = 1767323045,
    })
    t.eq({ list[2].type, list[2].symlink_target }, { "symlink", "/home/user/a.txt" })
    t.eq(#files:list("/home/user"), 3)
    t.eq(#files:list { path = "/home/user", depth = 2 }, 5)
    t.eq(json.decode(fake:last("POST", "/filesystem.Filesystem/ListDir").body).depth, 2)
    t.raises("file_not_found", files.list, files, "/nope")
    t.match(t.raises("invalid_argument", files.list, files, "a.txt").message, "not a directory")
    t.raises("invalid_argument", files.list, files, "dir", { depth = 0 })
    t.raises("invalid_argument", files.list, "dir")
end)

t.test("get_info and exists", function()
    local fake, files = start()
    t.eq(files:get_info("dir").type, "dir")
    t.eq(files:get_info("a.txt").size, 5)
    t.raises("file_not_found", files.get_info, files, "nope")
    t.raises("invalid_argument", files.get_info, "a.txt")
    t.eq(files:exists("a.txt"), true)
    t.eq(files:exists("nope", { user = "root" }), false)
    t.eq(fake:last("POST", "/filesystem.Filesystem/Stat").headers.authorization, "Basic cm9vdDo=")
    t.raises("invalid_argument", files.exists, "a.txt")
    t.raises("authentication", files.exists, files, "a.txt", { user = "nobody" })
end)

t.test("make_dir", function()
    local fake, files = start()
    t.eq(files:make_dir("new/deep"), true)
    t.eq(fake.files["/home/user/new/deep"].dir, true)
    t.eq(files:make_dir("new/deep"), false)
    t.match(t.raises("invalid_argument", files.make_dir, files, "a.txt").message, "not a directory")
    t.raises("invalid_argument", files.make_dir, "new")
end)

t.test("rename and remove", function()
    local fake, files = start()
    t.eq(files:rename("a.txt", "c.txt").path, "/home/user/c.txt")
    t.eq(fake.files["/home/user/a.txt"], nil)
    t.raises("file_not_found", files.rename, files, "a.txt", "d")
    t.raises("invalid_argument", files.rename, files, "a.txt")
    t.raises("invalid_argument", files.rename, "a.txt", "b")
    files:remove("c.txt")
    files:remove("c.txt")
    t.eq(fake.files["/home/user/c.txt"], nil)
    t.raises("invalid_argument", files.remove, "c.txt")
end)

t.test("an answer without an entry is a protocol error", function()
    local fake, files = start()
    fake.override["POST /filesystem.Filesystem/Stat"] = function(req)
        req:reply(200, nil, "{}")
    end
    t.raises("protocol", files.get_info, files, "a.txt")
end)
