-- Building against a server that keeps what it is sent.
local t = require "tests"
local e2b = require "e2b"
local fake_builder = require "fake_builder"
local fs = require "e2b_fs"
local hash = require "e2b_hash"
local id_file = require "e2b.template.id_file"

local Template = e2b.Template
local entry = fake_builder.entry

local function context()
    local dir = t.tmpdir()
    assert(fs.write_file(dir .. "/a.txt", "hello", tonumber("644", 8)))
    return dir
end

-- Builds, gathering what is said.
local function build(fake, template, more)
    local said = {}
    local opts = fake:options(more)
    opts.name = opts.name or "my_app"
    opts.on_build_logs = function(e)
        said[#said + 1] = e
    end
    local info = Template.build(template, opts)
    return info, said
end

local function messages(said)
    local list = {}
    for i, e in ipairs(said) do
        list[i] = (e.mark and e.mark .. ": " or "") .. e.message
    end
    return list
end

t.test("a build registers, uploads, starts and follows", function()
    local fake = fake_builder.start()
    fake.entries = { entry("base", "[base] FROM x"), entry("1", "\27[32mgreen\27[0m") }
    local template = Template { file_context_path = context() }:copy("a.txt", "/dst/")
    local info, said = build(fake, template, { tags = { "v1", "v2" }, cpu_count = 4,
        memory_mb = 512, skip_cache = true })
    t.eq(info, { template_id = fake_builder.TEMPLATE, build_id = fake_builder.BUILD,
        name = "my_app", alias = "my_app", tags = { "v1", "v2" } })
    t.eq(fake.registered, { name = "my_app", tags = { "v1", "v2" }, cpuCount = 4, memoryMB = 512 })
    t.eq(fake.request.force, true)
    t.eq(fake.request.steps[1].filesHash, fake.uploads[1].hash)
    t.eq(messages(said), {
        "start: Build started",
        "Requesting build for template: my_app with tags: v1, v2",
        ("Template created with ID: %s, Build ID: %s"):format(fake_builder.TEMPLATE,
            fake_builder.BUILD),
        "Uploaded 'a.txt'",
        "All file uploads completed",
        "Starting building...",
        "Waiting for logs...",
        "[base] FROM x",
        "green",
        "end: Build finished",
    })
    t.eq(said[8].step, "base")
    t.eq(said[8].timestamp, 1767261600)
end)

t.test("unset options are not sent", function()
    local fake = fake_builder.start()
    build(fake, Template(), { name = "x" })
    t.eq(fake.registered, { name = "x" })
    local opts = fake:options()
    opts.alias = "y"
    Template.build(Template(), opts)
    t.eq(fake.registered, { name = "y" })
    Template.build(Template(), "z", fake:options())
    t.eq(fake.registered, { name = "z" })
end)

t.test("an upload has its length, the link's headers and no key", function()
    local fake = fake_builder.start()
    build(fake, Template { file_context_path = context() }:copy("a.txt", "/"))
    local upload = fake.uploads[1]
    t.eq(upload.headers["content-length"], tostring(#upload.body))
    t.eq(upload.headers["transfer-encoding"], nil)
    t.eq(upload.headers["x-blob"], "yes")
    t.eq(upload.headers["x-api-key"], nil)
    t.eq(upload.body:sub(1, 2), "\x1f\x8b")
end)

t.test("what is there is not uploaded again, unless forced", function()
    local fake, dir = fake_builder.start(), context()
    build(fake, Template { file_context_path = dir }:copy("a.txt", "/"))
    local _, said = build(fake, Template { file_context_path = dir }:copy("a.txt", "/"))
    t.eq(#fake.uploads, 1)
    t.match(table.concat(messages(said), "\n"), "Skipping upload of 'a.txt', already cached")
    build(fake, Template { file_context_path = dir }:copy("a.txt", "/", { force_upload = true }))
    t.eq(#fake.uploads, 2)
end)

t.test("an upload of some megabytes arrives whole", function()
    local fake, dir = fake_builder.start(), t.tmpdir()
    assert(os.execute("head -c 3000000 /dev/urandom > " .. dir .. "/big"))
    build(fake, Template { file_context_path = dir }:copy("big", "/", { gzip = false }))
    local out = t.tmpdir() .. "/x"
    assert(fs.write_file(out, fake.uploads[1].body))
    assert(os.execute(("tar -xf %s -C %s && cmp %s/big %s/big"):format(out, out:match("^(.*)/"),
        out:match("^(.*)/"), dir)))
    t.eq(hash.file(dir .. "/big"), hash.file(out:match("^(.*)/") .. "/big"))
end)

t.test("a refused upload names the file and hides the link", function()
    local fake = fake_builder.start()
    fake.upload_status = 507
    local e = t.raises("file_upload", build, fake,
        Template { file_context_path = context() }:copy("a.txt", "/"))
    t.match(e.message, "^Failed to upload file: 'a.txt': 507: <Error>no room</Error>")
    t.ok(not e.message:find("secret", 1, true))
    t.match(e.where, "template_build_test%.lua:%d+$")
    t.eq(fake.request, nil)
end)

t.test("temporary archives are gone, also after a failure", function()
    local tmp = os.getenv("TMPDIR") or "/tmp"
    local function archives()
        local n = 0
        for _, name in ipairs(fs.list(tmp)) do
            n = n + (name:find("^e2blua%-copy%-") and 1 or 0)
        end
        return n
    end
    local before = archives()
    local fake = fake_builder.start()
    local dir = context()
    build(fake, Template { file_context_path = dir }:copy("a.txt", "/"))
    fake.upload_status, fake.present = 500, {}
    t.raises("file_upload", build, fake, Template { file_context_path = dir }:copy("a.txt", "/"))
    t.eq(archives(), before)
end)

t.test("long logs are drained to the last line", function()
    local fake = fake_builder.start()
    fake.page = 2
    for i = 1, 7 do
        fake.entries[i] = entry("1", "line " .. i)
    end
    local _, said = build(fake, Template():run_cmd("x"))
    t.eq(said[#said - 1].message, "line 7")
end)

t.test("a failing step names itself, its line, its code and its output", function()
    local fake = fake_builder.start()
    for i = 1, 12 do
        fake.entries[i] = entry("2", "[builder 2/3] [stdout]: line " .. i)
    end
    fake.entries[13] = entry("1", "[builder 1/3] [stderr]: of another step")
    fake.reason = { message = "failed to run command 'b': exit status 42", step = "2" }
    local template = Template()
        :from_base_image()
        :run_cmd("a")
        :run_cmd("b", { user = "root" })
        :run_cmd("c")
    local line = debug.getinfo(1, "l").currentline - 2
    local e = t.raises("build", build, fake, template)
    t.match(e.where, "template_build_test%.lua:" .. line .. "$")
    t.eq(e.exit_code, 42)
    t.eq(e.step, "2")
    t.match(e.message, "^step 2 %(RUN b root%) failed: failed to run command 'b': exit status 42\n")
    t.match(e.message, "\n    line 3\n")
    t.match(e.message, "\n    line 12$")
    t.ok(not e.message:find("line 2\n", 1, true), "ten lines are enough")
    t.eq(e.output:match("^[^\n]*"), "line 3")
    t.eq(e.build_id, fake_builder.BUILD)
end)

t.test("a failure of the base or of the start command points there", function()
    local fake = fake_builder.start()
    fake.reason = { message = "template 'x' not found", step = "base" }
    local template = Template():run_cmd("y")
    template
        :from_template("x")
        :set_start_cmd("serve", e2b.wait_for_port(1))
    local line = debug.getinfo(1, "l").currentline
    local e = t.raises("build", build, fake, template)
    t.match(e.message, "^FROM x failed: template 'x' not found$")
    t.match(e.where, ":" .. line - 2 .. "$")
    fake.polls = 0
    fake.reason = { message = "start command failed: exit status 2", step = "finalize" }
    e = t.raises("build", build, fake, template)
    t.match(e.message, "^the start or ready command failed: ")
    t.match(e.where, ":" .. line - 1 .. "$")
    t.eq(e.exit_code, 2)
end)

t.test("a reason without a step, or with nonsense, still is an error", function()
    for _, step in ipairs { false, "99", "later", "0" } do
        local fake = fake_builder.start()
        fake.reason = { message = "build was cancelled", step = step or nil }
        local e = t.raises("build", build, fake, Template():run_cmd("x"))
        t.eq(e.message, "build was cancelled")
    end
end)

-- The lines a template file's steps are said to stand on.
local function lines_of(text)
    local position = require "e2b.template.position"
    local path = t.tmpdir() .. "/template.lua"
    assert(fs.write_file(path, text))
    local template = assert(loadfile(path))()
    local lines = {}
    for i, step in ipairs(template.steps) do
        local where = position.resolve(template.calls, step.call)
        lines[i] = math.tointeger(tonumber(where and where:match(":(%d+)$")))
    end
    return lines
end

t.test("lines of chains, loops and calls behind return are found", function()
    t.eq(lines_of [=[
local T = require("e2b").Template
local t = T()
    :from_base_image()
    -- :run_cmd("in a comment")
    :run_cmd("a")
    :run_cmd {
        "b :run_cmd(", 'c \' :run_cmd(', --[[ :run_cmd() ]]
        [[
:run_cmd(
]],
    } :set_envs { A = "1" }
for i = 1, 3 do
    t:run_cmd("x" .. i):run_commands("y")
end
t:copy({ "a", "b" }, "c")
    :copy_files("d", "e")
if t then
    t:set_user("u")
end
return t
    :set_workdir("/w")
    :make_dir("/z")
]=], { 5, 6, 11, 13, 13, 13, 13, 13, 13, 15, 15, 16, 18, 21, 22 })
    t.eq(lines_of [=[
return require("e2b").Template():from_base_image()
    :run_cmd("a")

    :run_cmd("b")
]=], { 2, 4 })
    t.eq(lines_of [=[
local t = require("e2b").Template()
local function more()
    return t:run_cmd("a")
end
more()
return t:run_cmd("b")
]=], { 3, 6 })
end)

t.test("copy without files names its line", function()
    local fake = fake_builder.start()
    local template = Template { file_context_path = context() }
        :copy("a.txt", "/")
        :copy("missing", "/")
    local e = t.raises("template", build, fake, template)
    t.match(e.where, ":" .. debug.getinfo(1, "l").currentline - 2 .. "$")
    t.match(e.message, "No files found in .*/missing$")
end)

t.test("the context is the folder of the template's file", function()
    local dir = t.tmpdir()
    assert(fs.write_file(dir .. "/here.txt", "x"))
    assert(fs.write_file(dir .. "/template.lua",
        "return require('e2b').Template():copy('here.txt', '/'):run_cmd('x')"))
    local fake = fake_builder.start()
    build(fake, assert(loadfile(dir .. "/template.lua"))())
    t.eq(#fake.uploads, 1)
end)

t.test("in the background: returns at once, the status is asked for", function()
    local fake = fake_builder.start()
    fake.entries = { entry("1", "one"), entry("1", "two") }
    local opts = fake:options()
    opts.name = "bg"
    local info = Template.build_in_background(Template():run_cmd("x"), opts)
    t.eq(fake.polls, 0)
    local status = Template.get_build_status(info, fake:options { logs_offset = 1 })
    t.eq(status.status, "building")
    t.eq(#status.log_entries, 1)
    t.eq(status.log_entries[1].message, "two")
    fake.reason = { message = "m", step = "1", logEntries = { entry("1", "bad", "error") } }
    status = Template.get_build_status(info, fake:options())
    t.eq(status.status, "error")
    t.eq(status.reason.message, "m")
    t.eq(status.reason.step, "1")
    t.eq(status.reason.log_entries[1].level, "error")
end)

t.test("exists, tags", function()
    local fake = fake_builder.start()
    t.eq(Template.exists("known", fake:options()), true)
    t.eq(Template.exists("foreign", fake:options()), true)
    t.eq(Template.exists("unknown", fake:options()), false)
    t.raises("authentication", Template.exists, "known", fake:options { api_key = "e2b_bad" })
    t.eq(Template.assign_tags("known:v1", "stable", fake:options()),
        { build_id = fake_builder.BUILD, tags = { "stable" } })
    t.eq(fake.tags, { target = "known:v1", tags = { "stable" } })
    Template.remove_tags("known", { "stable" }, fake:options())
    t.eq(fake.tags, { name = "known", tags = { "stable" } })
    t.eq(Template.get_tags("known", fake:options()),
        { { tag = "v1", build_id = fake_builder.BUILD, created_at = 1767261600 } })
    t.raises("template", Template.get_tags, "unknown", fake:options())
    t.raises("invalid_argument", Template.assign_tags, "x", 5)
    t.raises("invalid_argument", Template.remove_tags, 5, "x")
end)

t.test("an error in the log callback ends the wait and is raised", function()
    local fake = fake_builder.start()
    local opts = fake:options()
    opts.name = "x"
    opts.on_build_logs = function(e)
        if e.message == "Starting building..." then
            error("mine", 0)
        end
    end
    t.raises("mine", Template.build, Template(), opts)
end)

t.test("the logger prints from its level on", function()
    local lines, real = {}, print
    _G.print = function(line) -- luacheck: ignore
        lines[#lines + 1] = line
    end
    local ok, err = pcall(function()
        local log = e2b.default_build_logger()
        log { timestamp = 0, level = "debug", message = "Build started", mark = "start" }
        log { timestamp = 0, level = "debug", message = "hidden" }
        log { timestamp = 0, level = "warn", message = "shown" }
        e2b.default_build_logger { min_level = "debug" } {
            timestamp = 0, level = "debug", message = "all" }
    end)
    _G.print = real -- luacheck: ignore
    t.ok(ok, err)
    t.eq(#lines, 2)
    t.match(lines[1], "^%d+%.%ds%s+| %d%d:%d%d:%d%d WARN  shown$")
    t.match(lines[2], "DEBUG all$")
    t.raises("invalid_argument", e2b.default_build_logger, { min_level = "loud" })
end)

t.test(".template_id keeps a line for each backend", function()
    local path = t.tmpdir() .. "/.template_id"
    local home, cloud = { backend = "local" }, { backend = "remote", api_url = "https://api.x" }
    t.eq(id_file.read(path, home), nil)
    id_file.write(path, home, "aaa")
    id_file.write(path, cloud, "bbb")
    id_file.write(path, home, "ccc")
    t.eq(fs.read_file(path), "https://api.x bbb\nlocal ccc\n")
    t.eq(id_file.read(path, home), "ccc")
    t.eq(id_file.read(path, cloud), "bbb")
    assert(fs.write_file(path, "alone\n"))
    t.eq(id_file.read(path, cloud), "alone")
    id_file.write(path, cloud, "ddd")
    t.eq(fs.read_file(path), "https://api.x ddd\n")
end)

t.test("templates/web_app.lua is a template that downloads nothing", function()
    local template, opts = assert(loadfile("templates/web_app.lua"))()
    t.ok(Template.is_template(template))
    t.eq(opts.name, "web_app")
    for _, step in ipairs(template.steps) do
        t.ok(step.type ~= "RUN")
    end
    t.match(template.start_cmd, "3000")
    t.eq(template.ready_cmd, e2b.wait_for_port(3000):get_cmd())
end)
