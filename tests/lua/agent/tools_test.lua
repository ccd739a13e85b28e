-- The tools, each by its inputs and result texts.
local fake_sandbox = require "fake_sandbox"
local fs = require "e2b_fs"
local t = require "tests"
local tools = require "agent.tools"

local by_name = tools.offered {}

local function setup()
    local home = t.tmpdir()
    local context = tools.context({ sandbox = fake_sandbox.new(home, t.tmpdir()),
        env = { GREETING = "hello" } }, home)
    return function(name, input)
        local r = tools.run(by_name[name], context, input)
        return r.content, r.is_error or false, r.data
    end, home, context
end

t.test("declares Claude Code's names and inputs", function()
    local declared = tools.declare(tools.offered { disallowed_tools = { "Grep", "Bash(rm:*)" } })
    t.eq(#declared, 5)
    t.eq(declared[1].name, "Bash")
    local write = declared[3]
    t.eq({ write.name, write.input_schema.required[1], write.input_schema.required[2] },
        { "Write", "file_path", "content" })
    t.eq(write.input_schema.properties.content.type, "string")
end)

t.test("Read numbers lines, pages, and refuses what is no text", function()
    local run, home = setup()
    assert(fs.write_file(home .. "/a.txt", "one\ntwo\r\nthree"))
    t.eq(run("Read", { file_path = "a.txt" }), "     1\tone\n     2\ttwo\n     3\tthree")
    t.eq(run("Read", { file_path = home .. "/a.txt", offset = 2, limit = 1 }),
        "     2\ttwo\n... [lines 2 to 2 of 3 shown]")
    t.match(run("Read", { file_path = "a.txt", offset = 9 }), "shorter than the provided offset")
    assert(fs.write_file(home .. "/empty", ""))
    t.match(run("Read", { file_path = "empty" }), "contents are empty")
    assert(fs.write_file(home .. "/bin", "a\0b"))
    local text, failed = run("Read", { file_path = "bin" })
    t.match(text, "binary file")
    t.eq(failed, true)
    assert(fs.mkdirs(home .. "/dir"))
    text = run("Read", { file_path = "dir" })
    t.match(text, "is a folder")
    assert(fs.write_file(home .. "/big", ("x"):rep(300 * 1024)))
    text = run("Read", { file_path = "big" })
    t.match(text, "exceeds maximum allowed size")
    text = run("Read", { file_path = "big", limit = 1 })
    t.match(text, "bytes of the line left out")
    assert(fs.write_file(home .. "/p.png", "\137PNG"))
    local blocks = run("Read", { file_path = "p.png" })
    t.eq({ blocks[1].type, blocks[1].source.media_type, blocks[1].source.data },
        { "image", "image/png", "iVBORw==" })
end)

t.test("Write says whether the file was there", function()
    local run, home = setup()
    t.eq(run("Write", { file_path = "d/x", content = "1" }),
        "File created successfully at: " .. home .. "/d/x")
    local text, _, data = run("Write", { file_path = "./d/x", content = "2" })
    t.match(text, "has been updated successfully")
    t.eq({ data.type, data.originalFile }, { "update", "1" })
end)

t.test("Edit needs text that is there once", function()
    local run, home = setup()
    local path = home .. "/f"
    assert(fs.write_file(path, "a.b a.b %1\n"))
    local function edit(old, new, all)
        return run("Edit", { file_path = "f", old_string = old, new_string = new,
            replace_all = all })
    end
    local text, failed = edit("nope", "x")
    t.match(text, "String to replace not found in file.\nString: nope")
    t.eq(failed, true)
    t.match((edit("a.b", "x")), "Found 2 matches")
    t.match((edit("a", "a")), "exactly the same")
    t.eq(fs.read_file(path), "a.b a.b %1\n")
    t.match((edit(" %1", " %2")), "updated successfully")
    t.match((edit("a.b", "%0", true)), "All occurrences")
    t.eq(fs.read_file(path), "%0 %0 %2\n")
    t.match((edit("", "x")), "already exists")
    t.match((run("Edit", { file_path = "g", old_string = "", new_string = "new" })), "created")
    t.eq(fs.read_file(home .. "/g"), "new")
    t.match((run("Edit", { file_path = "h", old_string = "x", new_string = "y" })),
        "does not exist")
end)

t.test("Bash: output, exit codes, time limit, environment, background", function()
    local run, home = setup()
    t.eq(run("Bash", { command = "echo out; echo err >&2" }), "out\nerr")
    t.eq(run("Bash", { command = "true" }), "(no output)")
    t.eq(run("Bash", { command = "echo $GREETING; pwd" }), "hello\n" .. home)
    local text, failed, data = run("Bash", { command = "echo bad >&2; exit 7" })
    t.eq({ text, failed, data.exit_code }, { "Exit code 7\nbad", true, 7 })
    text, failed = run("Bash", { command = "sleep 5", timeout = 300 })
    t.eq({ text, failed }, { "Command timed out after 0.3 s", true })
    text = run("Bash", { command = "head -c 200000 /dev/zero | tr '\\0' x; echo; echo end" })
    t.ok(#text < 31000)
    t.match(text, "bytes of 200004 left out%] %.%.%.\n\nx*\nend$")
    text = run("Bash", { command = "printf '\\377ok'" })
    t.eq(text, "\239\191\189ok")
    text, failed, data = run("Bash", { command = "echo started", run_in_background = true })
    t.eq(failed, false)
    t.match(text, "Output is being written to: /tmp/bash_%x+%.output")
    local file = text:match "(/tmp/%S+%.output)"
    t.eq(math.type(data.pid), "integer")
    for _ = 1, 50 do
        if fs.read_file(file) == "started\n" then
            break
        end
        require "e2b_task".sleep(0.05)
    end
    t.eq(fs.read_file(file), "started\n")
    os.remove(file)
end)

t.test("Glob knows **, {}, [] and sorts by time", function()
    local run, home = setup()
    for i, name in ipairs { "a.js", "src/b.js", "src/deep/c.ts", ".git/d.js", "a+b.js" } do
        assert(fs.mkdirs((home .. "/" .. name):match("^(.*)/")))
        assert(fs.write_file(home .. "/" .. name, "x"))
        os.execute(("touch -d @%d '%s/%s'"):format(1000 + i, home, name))
    end
    local function glob(pattern, path)
        local text = run("Glob", { pattern = pattern, path = path })
        return (text:gsub(home:gsub("%p", "%%%0") .. "/", ""))
    end
    t.eq(glob "*.js", "a+b.js\na.js")
    t.eq(glob "**/*.js", "a+b.js\nsrc/b.js\na.js")
    t.eq(glob "src/**/*.{js,ts}", "src/deep/c.ts\nsrc/b.js")
    t.eq(glob "a+b.js", "a+b.js")
    t.eq(glob "[!b].js", "a.js")
    t.eq(glob("?.js", "src"), "src/b.js")
    t.eq(glob(home .. "/src/*.js"), "src/b.js")
    t.eq(glob "*.py", "No files found")
    local text, failed = run("Glob", { pattern = "{a" })
    t.match(text, "does not close")
    t.eq(failed, true)
    t.match((run("Glob", { pattern = "*", path = "none" })), "Directory does not exist")
end)

-- The double has no ripgrep: its command line is what can be checked here.
t.test("Grep builds its command and reads its answer", function()
    local run, home, context = setup()
    local seen, result
    context.sandbox.commands = { run = function(_, cmd)
        seen = cmd
        if result.exit_code ~= 0 then
            require("e2b.error").raise("command_exit", "x", { result = result })
        end
        return result
    end }
    result = { stdout = home .. "/a:1:x\n" .. home .. "/a:2:x\n", stderr = "", exit_code = 0 }
    t.eq(run("Grep", { pattern = "it's", output_mode = "content", ["-i"] = true, ["-C"] = 2,
        glob = "*.lua", head_limit = 1 }),
        home .. "/a:1:x\n... [1 more lines; use offset and head_limit]")
    t.match(seen, "%-%-line%-number %-C 2 %-%-ignore%-case '%-%-glob=%*%.lua'")
    t.match(seen, "%-%-regexp=it'\\''s' %-%- " .. home:gsub("%p", "%%%0") .. "$")
    result = { stdout = "", stderr = "", exit_code = 1 }
    t.eq(run("Grep", { pattern = "x" }), "No matches found")
    result = { stdout = "", stderr = "regex parse error", exit_code = 2 }
    local text, failed = run("Grep", { pattern = "(" })
    t.eq({ text, failed }, { "regex parse error", true })
    result.exit_code = 127
    t.match((run("Grep", { pattern = "(" })), "not installed")
    t.match((run("Grep", { pattern = "x", output_mode = "all" })),
        "must be one of content, files_with_matches, count")
end)
