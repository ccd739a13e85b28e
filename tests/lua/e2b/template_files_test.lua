-- The files of COPY: globs, ignore rules, hashes, archives.
local t = require "tests"
local archive = require "e2b_archive"
local fs = require "e2b_fs"
local hash = require "e2b_hash"
local fileset = require "e2b.template.fileset"
local glob = require "e2b.template.glob"

local function put(dir, path, text, mode)
    local folder = path:match("^(.*)/[^/]*$")
    if folder then
        assert(fs.mkdirs(dir .. "/" .. folder, tonumber("755", 8)))
    end
    assert(fs.write_file(dir .. "/" .. path, text or path, mode or tonumber("644", 8)))
end

local function link(target, path)
    assert(os.execute(("ln -s '%s' '%s'"):format(target, path)))
end

local function matches(pattern, path, below)
    return glob.matches(glob.compile(pattern), glob.split(path), below)
end

t.test("patterns match names and folders", function()
    local yes = {
        { "a.txt", "a.txt" }, { "./a.txt", "a.txt" }, { "*.txt", "a.txt" }, { "*", ".hidden" },
        { "a?c", "abc" }, { "a?c", "a\xC3\xA9c" }, { "[ab].c", "b.c" }, { "[a-c]x", "bx" },
        { "[!a]x", "bx" }, { "[^a]x", "bx" }, { "**", "a/b/c" }, { "**/c", "a/b/c" },
        { "**/c", "c" }, { "a/**/c", "a/c" }, { "a/**/c", "a/b/b/c" }, { "a/**", "a" },
        { "a/*/c", "a/b/c" }, { "a\\*", "a*" }, { "a.b-c+d", "a.b-c+d" }, { "[", "[" },
        { "[]]", "]" }, { "**/*.lua", "x/y/z.lua" }, { "*a*b*", "xxaxxbxx" }, { ".", "." },
    }
    for _, case in ipairs(yes) do
        t.ok(matches(case[1], case[2]), case[1] .. " should match " .. case[2])
    end
    local no = {
        { "*.txt", "d/a.txt" }, { "a", "ab" }, { "a?c", "ac" }, { "[ab]", "c" }, { "a/*", "a" },
        { "a/*", "a/b/c" }, { "[!a]x", "ax" }, { "a.c", "abc" }, { "**/c", "a/cd" },
        { "a/**/c", "b/c" }, { "%a", "x" },
    }
    for _, case in ipairs(no) do
        t.ok(not matches(case[1], case[2]), case[1] .. " should not match " .. case[2])
    end
    t.ok(not matches("a/**", "a", true), "Docker: a/** is what is below a")
    t.ok(matches("a/**", "a/b", true))
    local compiled, why = glob.compile("[a", true)
    t.eq(compiled, nil)
    t.match(why, "does not end")
    t.eq((glob.compile("a\\", true)), nil)
end)

local function tree()
    local dir = t.tmpdir()
    put(dir, "app/a.txt")
    put(dir, "app/.dot")
    put(dir, "app/sub/b.txt")
    put(dir, "app.txt")
    put(dir, "top.txt")
    link("a.txt", dir .. "/app/lnk")
    link("sub", dir .. "/app/dirlnk")
    link("nope", dir .. "/app/broken")
    return dir
end

local function paths(dir, src, ignore)
    return fileset.paths(dir, src, fileset.rules(dir, ignore or {}))
end

t.test("a folder brings all below it, links as links, sorted as absolute paths", function()
    local dir = tree()
    local all = { "app", "app/.dot", "app/a.txt", "app/broken", "app/dirlnk", "app/lnk", "app/sub",
        "app/sub/b.txt" }
    t.eq(paths(dir, "app"), all)
    t.eq(paths(dir, "app/"), all)
    t.eq(paths(dir, "./app"), all)
    t.eq(paths(dir, "."), { ".", "app", "app.txt", "app/.dot", "app/a.txt", "app/broken",
        "app/dirlnk", "app/lnk", "app/sub", "app/sub/b.txt", "top.txt" })
    t.eq(paths(dir, "*.txt"), { "app.txt", "top.txt" })
    t.eq(paths(dir, "app/*"), { "app/.dot", "app/a.txt", "app/broken", "app/dirlnk", "app/lnk",
        "app/sub", "app/sub/b.txt" })
    t.eq(paths(dir, "**/b.txt"), { "app/sub/b.txt" })
    t.eq(paths(dir, "app/dirlnk"), { "app/dirlnk" })
    t.eq(paths(dir, "app/sub/b.txt"), { "app/sub/b.txt" })
end)

t.test("nothing found is said with the place and what to do", function()
    local dir = tree()
    local e = t.raises("template", paths, dir, "missing")
    t.eq(e.message, "No files found in " .. dir .. "/missing")
    t.match(e.remedy, "file_context_path")
    e = t.raises("template", paths, dir, "app.txt", { "*.txt" })
    t.match(e.remedy, "excluded")
    t.raises("template", paths, dir, "app/a.txt/x")
    t.raises("not_found", paths, dir .. "/nowhere", "x")
end)

t.test("ignore rules are Docker's", function()
    local dir = tree()
    put(dir, "node_modules/x/y.js")
    put(dir, "node_modules/keep.js")
    local function names(ignore)
        return paths(dir, ".", ignore)
    end
    local short = { ".", "app.txt", "top.txt" }
    t.eq(names { "node_modules", "app" }, short)
    t.eq(names { "/node_modules/", " app " }, short)
    t.eq(names { "node_modules/**", "node_modules", "app/*", "app" }, short)
    t.eq(names { "app", "node_modules", "!node_modules/keep.js" },
        { ".", "app.txt", "node_modules/keep.js", "top.txt" })
    t.eq(names { "!app.txt", "*", "!top.txt" }, { ".", "top.txt" })
    t.eq(names { "**/*.txt", "node_modules", "app/.dot", "app/*lnk", "app/broken" },
        { ".", "app", "app/sub" })
    t.eq(names { "# nothing", "", "app", "node_modules" }, short)
    local e = t.raises("template", names, { "[a" })
    t.match(e.message, "%[a.*file_ignore_patterns")
end)

t.test(".dockerignore comes first, file_ignore_patterns can take back", function()
    local dir = tree()
    put(dir, ".dockerignore", "# comment\r\napp\n\n*.txt\n.dockerignore\n")
    t.eq(paths(dir, ".", { "!top.txt" }), { ".", "top.txt" })
    put(dir, ".dockerignore", "[x")
    t.match(t.raises("template", paths, dir, ".").message, "%.dockerignore")
end)

local function set_of(dir, src, dest, follow)
    return fileset.of(dir, {}, { src = src, dest = dest, resolve_symlinks = follow })
end

t.test("the hash is that of the E2B SDK", function()
    local dir = t.tmpdir()
    put(dir, "d/a.txt", "hello")
    t.eq(set_of(dir, "d/a.txt", "/dst/").hash,
        "43abf6428831df65fe59b7c415d569d4b181250f413f2acef58c6fdc2c2838f9")
    t.eq(set_of(dir, "d/a.txt", "/dst/").hash,
        hash.sha256("COPY d/a.txt /dst/" .. "d/a.txt" .. "33188" .. "5" .. "hello"))
    -- A folder counts by its mode alone, a link by its target.
    link("a.txt", dir .. "/d/l")
    t.eq(set_of(dir, "d", "/x").hash,
        hash.sha256("COPY d /x" .. "d16877" .. "d/a.txt331885hello" .. "d/l414715a.txt"))
    t.eq(set_of(dir, "d", "/x", true).hash,
        hash.sha256("COPY d /x" .. "d16877" .. "d/a.txt331885hello" .. "d/l331885hello"))
    link("nope", dir .. "/d/m")
    t.eq(set_of(dir, "d/m", "/x", true).hash, hash.sha256("COPY d/m /x" .. "d/m414714nope"))
end)

t.test("contents, modes and the arguments change the hash, times do not", function()
    local dir = t.tmpdir()
    put(dir, "f", "one")
    local first = set_of(dir, "f", "/x").hash
    t.ok(first ~= set_of(dir, "f", "/y").hash)
    t.ok(first ~= set_of(dir, "./f", "/x").hash)
    put(dir, "f", "two")
    t.ok(first ~= set_of(dir, "f", "/x").hash)
    put(dir, "f", "one", tonumber("755", 8))
    t.ok(first ~= set_of(dir, "f", "/x").hash)
    put(dir, "f", "one")
    assert(os.execute("touch -d 2001-01-01 " .. dir .. "/f"))
    t.eq(set_of(dir, "f", "/x").hash, first)
end)

t.test("what is neither file, folder nor link is refused by name", function()
    local dir = t.tmpdir()
    assert(os.execute("mkfifo " .. dir .. "/pipe"))
    local e = t.raises("template", set_of, dir, ".", "/x")
    t.match(e.message, "^pipe is neither")
end)

local function unpacked(set, gzip)
    local out = t.tmpdir()
    local packed <close> = fileset.pack(set, gzip)
    t.eq(fs.stat(packed.path).size, packed.size)
    t.eq(fs.stat(packed.path).mode, tonumber("600", 8))
    assert(os.execute(("tar -x%sf %s -C %s"):format(gzip and "z" or "", packed.path, out)))
    local pipe = assert(io.popen(("tar -t%sf %s"):format(gzip and "z" or "", packed.path)))
    local listing = {}
    for line in pipe:lines() do
        listing[#listing + 1] = line
    end
    pipe:close()
    return out, listing, packed.path
end

t.test("the archive holds exactly the set, in its order", function()
    local dir = tree()
    put(dir, "app/run.sh", "#!/bin/sh\n", tonumber("755", 8))
    put(dir, "app/empty", "")
    put(dir, "app/" .. ("n"):rep(200) .. "\xC3\xA9\nx", "odd name")
    local out, listing, path = unpacked(set_of(dir, "app", "/x"), true)
    t.eq(listing[1], "app/")
    t.eq(listing[2], "app/.dot")
    t.eq(#listing, 11)
    t.eq(fs.stat(out .. "/app/run.sh").mode, tonumber("755", 8))
    t.eq(fs.read_file(out .. "/app/sub/b.txt"), "app/sub/b.txt")
    t.eq(fs.read_file(out .. "/app/empty"), "")
    t.eq(fs.read_file(out .. "/app/" .. ("n"):rep(200) .. "\xC3\xA9\nx"), "odd name")
    t.eq(fs.stat(out .. "/app/dirlnk", true).type, "link")
    t.eq(fs.stat(out .. "/app/broken", true).type, "link")
    t.eq(fs.stat(path), nil)
end)

t.test("the archive may be plain, and links be followed", function()
    local dir = t.tmpdir()
    put(dir, "a", ("x"):rep(300000))
    link("a", dir .. "/l")
    local out = unpacked(set_of(dir, "l", "/x", true), false)
    t.eq(fs.stat(out .. "/l", true).type, "file")
    t.eq(fs.stat(out .. "/l").size, 300000)
end)

t.test("the same files give the same archive", function()
    local dir = tree()
    local set = set_of(dir, "app", "/x")
    local first <close> = fileset.pack(set, true)
    local second <close> = fileset.pack(set, true)
    t.eq(hash.file(first.path), hash.file(second.path))
end)

t.test("a link in the way does not lead out of the context", function()
    local dir, outside = t.tmpdir(), t.tmpdir()
    put(outside, "secret")
    link(outside, dir .. "/door")
    t.raises("template", paths, dir, "door/secret")
    local _, e = archive.hash(dir, { "door/secret" }, "")
    t.ok(e, "hash must refuse")
    _, e = archive.pack(dir, { "../x" }, true)
    t.ok(e, "pack must refuse")
end)
