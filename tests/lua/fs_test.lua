--- e2b_fs: files of this machine.
local fs = require "e2b_fs"
local t = require "tests"
local task = require "e2b_task"

local function octal(digits)
    return tonumber(digits, 8)
end

t.test("fs.write_file and fs.read_file keep every byte", function()
    local path = t.tmpdir() .. "/a\nb"
    local bytes = ("\0\xff\n"):rep(100000)
    t.ok(fs.write_file(path, bytes, octal("600")))
    t.ok(fs.read_file(path) == bytes)
    t.eq(fs.stat(path).mode, octal("600"))
    t.ok(fs.write_file(path, ""))
    t.eq(fs.read_file(path), "")
    t.eq(fs.stat(path).mode, octal("644"))
end)

t.test("fs.read_file says why not", function()
    local dir = t.tmpdir()
    t.ok(fs.write_file(dir .. "/f", "12345"))
    t.eq(fs.read_file(dir .. "/f", 5), "12345")
    t.match(t.fails("invalid_argument", fs.read_file, dir .. "/f", 4).message, "over 4 bytes")
    t.match(t.fails("not_found", fs.read_file, dir .. "/none").message, "/none")
    t.fails("invalid_argument", fs.read_file, dir)
    t.raises("string expected", fs.read_file)
    t.raises("zero byte", function()
        local ok, e = pcall(fs.read_file, "a\0b")
        error(ok or e.message, 0)
    end)
    t.raises("invalid_argument", fs.read_file, dir, -1)
end)

t.test("fs.write_file leaves nothing when it fails", function()
    local dir = t.tmpdir()
    t.fails("not_found", fs.write_file, dir .. "/none/f", "x")
    t.ok(fs.mkdirs(dir .. "/folder"))
    t.fails("internal", fs.write_file, dir .. "/folder", "x")
    t.eq(fs.list(dir), {"folder"})
    t.raises("string expected", fs.write_file, dir .. "/f")
    t.raises("invalid_argument", fs.write_file, dir .. "/f", "x", octal("10000"))
end)

t.test("fs.list sorts names and gives all of them", function()
    local dir = t.tmpdir()
    for i = 50, 1, -1 do
        t.ok(fs.write_file(string.format("%s/%02d", dir, i), ""))
    end
    local names = fs.list(dir)
    t.eq(#names, 50)
    t.eq(names[1], "01")
    t.eq(names[50], "50")
    t.fails("not_found", fs.list, dir .. "/none")
    t.raises("string expected", fs.list, 5)
end)

t.test("fs.stat tells type, size, mode and time", function()
    local dir = t.tmpdir()
    t.ok(fs.write_file(dir .. "/f", "abc"))
    local st = fs.stat(dir .. "/f")
    t.eq({st.type, st.size}, {"file", 3})
    t.ok(math.abs(st.mtime - os.time()) < 10)
    t.eq(fs.stat(dir).type, "dir")
    t.eq(fs.stat("/dev/null").type, "char")
    t.eq(fs.stat("/proc/self/exe").type, "file")
    t.eq(fs.stat("/proc/self/exe", true).type, "link")
    t.fails("not_found", fs.stat, dir .. "/none")
    t.raises("string expected", fs.stat)
end)

t.test("fs.mkdirs makes what is missing", function()
    local dir = t.tmpdir()
    t.ok(fs.mkdirs(dir .. "/a/b/c", octal("700")))
    t.ok(fs.mkdirs(dir .. "/a/b/c"))
    t.eq(fs.stat(dir .. "/a/b").mode, octal("700"))
    t.ok(fs.write_file(dir .. "/f", ""))
    t.fails("invalid_argument", fs.mkdirs, dir .. "/f")
    t.raises("string expected", fs.mkdirs)
    t.raises("invalid_argument", fs.mkdirs, dir .. "/x", -1)
end)

t.test("fs.remove_tree takes a whole tree, follows no link, refuses / . and ..", function()
    local dir = t.tmpdir()
    t.ok(fs.mkdirs(dir .. "/a/b"))
    t.ok(fs.write_file(dir .. "/a/b/f", ""))
    t.ok(fs.remove_tree(dir .. "/a/"))
    t.ok(fs.remove_tree(dir .. "/a"))
    t.eq(fs.list(dir), {})
    for _, path in ipairs {"/", ".", "..", "/tmp/..", "a/..", "", "../.."} do
        t.raises("invalid_argument", fs.remove_tree, path)
    end
    t.raises("string expected", fs.remove_tree)
end)

t.test("fs.cwd, fs.realpath and fs.environ tell what the process has", function()
    t.eq(fs.realpath("."), fs.cwd())
    t.eq(fs.realpath("/proc/../proc//./version"), "/proc/version")
    t.fails("not_found", fs.realpath, "/none/at/all")
    t.raises("string expected", fs.realpath)
    t.eq(fs.environ().PATH, os.getenv("PATH"))
end)

t.test("files are read while other tasks run, and a cancelled reader is let go", function()
    local ticks = 0
    local ticker = task.spawn(function()
        while true do
            task.sleep(0)
            ticks = ticks + 1
        end
    end)
    local reader = task.spawn(function()
        return #t.ok(fs.read_file("/proc/self/maps"))
    end)
    t.ok(reader:join(10) > 0)
    local given_up = task.spawn(function()
        fs.list("/proc")
    end)
    task.sleep(0)
    given_up:cancel()
    ticker:cancel()
    t.raises("cancelled", given_up.join, given_up, 10)
    t.raises("cancelled", ticker.join, ticker, 10)
    t.ok(ticks > 0)
end)

t.test("files cannot be waited for inside a sort", function()
    local e = t.raises("cannot_wait", table.sort, {1, 2, 3}, function(a, b)
        fs.read_file("/proc/version")
        return a < b
    end)
    t.match(e.message, "table%.sort")
end)
