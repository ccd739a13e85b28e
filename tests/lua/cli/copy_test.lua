-- What e2blua cp makes of its words, and of archives out of a sandbox.
local archive = require "e2b_archive"
local copy = require "cli.lib.copy"
local fs = require "e2b_fs"
local t = require "tests"

t.test("ID:PATH is a place in a sandbox, all else is here", function()
    t.eq(copy.place("iabc:/x/y"), { id = "iabc", path = "/x/y" })
    t.eq(copy.place("iabc:"), { id = "iabc", path = "." })
    t.eq(copy.place("iabc:a:b"), { id = "iabc", path = "a:b" })
    t.eq(copy.place("./a:b"), { path = "./a:b" })
    t.eq(copy.place("/a:b"), { path = "/a:b" })
    t.eq(copy.place("-"), { path = "-" })
    t.eq(copy.place("dir/x"), { path = "dir/x" })
end)

t.test("a folder that was packed unpacks to the same", function()
    local dir = t.tmpdir()
    assert(fs.mkdirs(dir .. "/from/sub"))
    assert(fs.write_file(dir .. "/from/a", "a"))
    assert(fs.write_file(dir .. "/from/sub/run", "x", 493))
    assert(os.execute(("ln -s sub/run '%s/from/link'"):format(dir)))
    local packed = assert(archive.pack(dir .. "/from", archive.list(dir .. "/from", "."), true))
    t.cleanup(function()
        os.remove(packed)
    end)
    t.ok(archive.unpack(packed, dir .. "/to") >= 4)
    t.eq(fs.read_file(dir .. "/to/a"), "a")
    t.eq(fs.stat(dir .. "/to/sub/run").mode, 493)
    t.eq(fs.realpath(dir .. "/to/link"), fs.realpath(dir .. "/to/sub/run"))
end)

-- An archive made by python3, whose tarfile writes whatever it is told.
local function made(lines)
    local dir = t.tmpdir()
    assert(fs.write_file(dir .. "/make.py", ([[
import io, sys, tarfile
tar = tarfile.open(sys.argv[1], "w:gz")
def add(name, kind=tarfile.REGTYPE, link="", data=b"evil", mode=0o644):
    m = tarfile.TarInfo(name)
    m.type, m.linkname, m.mode = kind, link, mode
    m.size = len(data) if kind == tarfile.REGTYPE else 0
    tar.addfile(m, io.BytesIO(data) if m.size else None)
%s
tar.close()
]]):format(lines)))
    assert(os.execute(("python3 '%s/make.py' '%s/a.tgz'"):format(dir, dir)))
    return dir .. "/a.tgz", dir
end

t.test("a hostile archive writes nothing outside its folder", function()
    local cases = {
        { 'add("../evil")', "outside its folder" },
        { 'add("a/../../evil")', "outside its folder" },
        { 'add("/tmp/e2blua-evil-test")', "member named" },
        { 'add("s", tarfile.SYMTYPE, ".."); add("s/evil")', "symlink" },
        { 'add("s", tarfile.SYMTYPE, "/tmp"); add("s/e2blua-evil-test")', "symlink" },
        { 'add("h", tarfile.LNKTYPE, "../secret")', "outside its folder" },
        { 'add("n", tarfile.CHRTYPE)', "neither a file" },
        { 'add("p", tarfile.FIFOTYPE)', "neither a file" },
    }
    for _, case in ipairs(cases) do
        local path, dir = made(case[1])
        assert(fs.write_file(dir .. "/secret", "secret"))
        local e = t.fails("protocol", archive.unpack, path, dir .. "/to")
        t.match(e.message:lower(), case[2], case[1])
        t.eq(fs.stat(dir .. "/evil"), nil, case[1])
        t.eq(fs.stat("/tmp/e2blua-evil-test"), nil, case[1])
        t.eq(fs.read_file(dir .. "/secret"), "secret")
    end
end)

t.test("names with dots and set-id bits are harmless", function()
    local path, dir = made('add("..a"); add("b..", mode=0o4755); add("./c/./d")')
    t.eq(archive.unpack(path, dir .. "/to"), 3)
    t.eq(fs.read_file(dir .. "/to/..a"), "evil")
    t.eq(fs.stat(dir .. "/to/b..").mode, 493)
    t.eq(fs.read_file(dir .. "/to/c/d"), "evil")
end)

t.test("a damaged archive is an error", function()
    local path, dir = made('add("a", data=b"x" * 100000)')
    local bytes = fs.read_file(path)
    assert(fs.write_file(path, bytes:sub(1, #bytes // 2)))
    t.fails("protocol", archive.unpack, path, dir .. "/to")
    t.fails("protocol", archive.unpack, dir .. "/nope", dir .. "/to")
    assert(fs.write_file(path, ("no archive "):rep(100)))
    t.fails("protocol", archive.unpack, path, dir .. "/to2")
end)
