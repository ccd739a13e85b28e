-- Files in real sandboxes.
local rig = require "engine_rig"
local t = require "tests"

t.before(rig.warm_up)

t.test("text, bytes, streams, what write says", function()
    local sbx = rig.sandbox()
    local info = sbx.files:write("dir/sub/a.txt", "ä\n")
    t.eq(info.path, "/home/user/dir/sub/a.txt")
    t.eq(sbx.files:read("/home/user/dir/sub/a.txt"), "ä\n")
    local bytes = "\0\r\n\255\254" .. ("x"):rep(3 << 20)
    sbx.files:write("/home/user/b", bytes)
    t.eq(sbx.files:read("b", { format = "bytes" }) == bytes, true)
    local parts, n = {}, 0
    for piece in sbx.files:read("b", { format = "stream" }) do
        n = n + 1
        parts[n] = piece
    end
    t.ok(n > 1, "it came in one piece")
    t.eq(table.concat(parts) == bytes, true)
    sbx.files:write("/home/user/empty", "")
    t.eq(sbx.files:read("empty"), "")
    t.eq(sbx.commands:run("stat -c '%U %a' b; stat -c %U dir/sub").stdout, "user 644\nuser\n")
end)

t.test("many files at once", function()
    local sbx = rig.sandbox()
    local list = {}
    for i = 1, 50 do
        list[i] = { path = "many/" .. i, data = tostring(i) }
    end
    t.eq(#sbx.files:write_files(list), 50)
    t.eq(#sbx.files:list("many"), 50)
    t.eq(sbx.files:read("many/37"), "37")
end)

t.test("names with newlines, spaces, quotes, percent signs and other bytes", function()
    local sbx = rig.sandbox()
    local names = { "a\nb", " lead and trail ", "100%20", "q\"u'o\\te", "ünï", "a&b=c?d#e", "-rf",
        "tab\there", "*?[x]", "semi;colon" }
    for _, name in ipairs(names) do
        sbx.files:write("odd/" .. name, "content of " .. name)
        t.eq(sbx.files:read("odd/" .. name), "content of " .. name)
        t.eq(sbx.files:exists("odd/" .. name), true)
        t.eq(sbx.files:get_info("odd/" .. name).name, name)
    end
    local got = {}
    for _, entry in ipairs(sbx.files:list("odd")) do
        got[#got + 1] = entry.name
        t.eq(entry.path, "/home/user/odd/" .. entry.name)
    end
    table.sort(got)
    table.sort(names)
    t.eq(got, names)
    t.eq(sbx.files:rename("odd/a\nb", "odd/c\nd").name, "c\nd")
    sbx.files:remove("odd/c\nd")
    t.eq(sbx.files:exists("odd/c\nd"), false)
    sbx.files:write_files { { path = "many/a\nb", data = "1" }, { path = "many/\"", data = "2" } }
    t.eq(sbx.files:read("many/a\nb"), "1")
    t.eq(sbx.files:read('many/"'), "2")
end)

t.test("a name that is not UTF-8 is listed repaired", function()
    local sbx = rig.sandbox()
    sbx.commands:run("mkdir bad && touch bad/$'\\xff'")
    local list = sbx.files:list("bad")
    t.eq({ #list, list[1].name }, { 1, "\u{FFFD}" })
end)

t.test("folders: list with depth, make, info, rename, remove", function()
    local sbx = rig.sandbox()
    t.eq(sbx.files:make_dir("d/e/f"), true)
    t.eq(sbx.files:make_dir("d/e/f"), false)
    sbx.files:write("d/e/f/x", "123")
    sbx.commands:run("ln -s x d/e/f/link")
    local function names(path, opts)
        local out = {}
        for _, entry in ipairs(sbx.files:list(path, opts)) do
            out[#out + 1] = entry.name .. ":" .. entry.type
        end
        return table.concat(out, " ")
    end
    t.eq(names("d"), "e:dir")
    t.eq(names("d", { depth = 2 }), "e:dir f:dir")
    t.match(names("d/e/f"), "x:file")
    local info = sbx.files:get_info("d/e/f/x")
    t.eq({ info.type, info.size, info.owner, info.path },
        { "file", 3, "user", "/home/user/d/e/f/x" })
    t.eq(sbx.files:get_info("d/e/f/link").symlink_target, "/home/user/d/e/f/x")
    t.eq(sbx.files:rename("d/e/f/x", "d/y").path, "/home/user/d/y")
    t.eq(sbx.files:exists("d/e/f/x"), false)
    sbx.files:remove("d")
    t.eq(sbx.files:exists("d"), false)
end)

t.test("what is not there, not allowed or not a file", function()
    local sbx = rig.sandbox()
    for _, call in ipairs { "read", "list", "get_info" } do
        local e = t.raises("file_not_found", sbx.files[call], sbx.files, "/no/such")
        t.match(e.message, "/no/such")
    end
    t.raises("file_not_found", sbx.files.rename, sbx.files, "/no/such", "/home/user/x")
    t.raises("invalid_argument", sbx.files.read, sbx.files, "/home/user")
    t.raises("invalid_argument", sbx.files.list, sbx.files, "/etc/hostname")
    t.raises("invalid_argument", sbx.files.write, sbx.files, "/home/user", "x")
    t.raises("invalid_argument", sbx.files.write, sbx.files, "x", 42)
    t.raises("invalid_argument", sbx.files.read, sbx.files, "x", { form = "text" })
    sbx.commands:run("mkfifo /home/user/pipe")
    t.raises("invalid_argument", sbx.files.read, sbx.files, "/home/user/pipe")
    t.raises("authentication", sbx.files.read, sbx.files, "x", { user = "nobody-here" })
    sbx.commands:run("echo secret > /root/s; chmod 600 /root/s", { user = "root" })
    t.eq(sbx.files:read("/root/s", { user = "root" }), "secret\n")
end)

t.test("a large file up and down, as a stream", { timeout = 120 }, function()
    local sbx = rig.sandbox { timeout = 120 }
    local fs = require "e2b_fs"
    local function peak()
        local text = fs.read_file("/proc/" .. rig.info().pid .. "/status")
        return tonumber(text:match("VmHWM:%s+(%d+)"))
    end
    local before = peak()
    sbx.commands:run("head -c 200000000 /dev/urandom > big; sha256sum < big > sum")
    local pieces = {}
    for piece in sbx.files:read("big", { format = "stream" }) do
        pieces[#pieces + 1] = piece
    end
    local i = 0
    sbx.files:write("back", function()
        i = i + 1
        return pieces[i]
    end)
    t.eq(sbx.commands:run("sha256sum < back").stdout, sbx.files:read("sum"))
    t.ok(rig.sanitized() or peak() - before < 32 << 10,
        ("the engine grew from %d to %d kB"):format(before, peak()))
end)
