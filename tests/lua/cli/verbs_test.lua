-- The verbs as programs, against the fake server.
local carried = require "e2b_carried"
local completion = require "cli.completion"
local fake_e2b = require "fake_e2b"
local fs = require "e2b_fs"
local json = require "e2b_json"
local main = require "cli.lib.main"
local rig = require "cli_rig"
local t = require "tests"

local function start()
    local fake = fake_e2b.start()
    fake.programs["echo out; echo err >&2; exit 7"] = function(p)
        p:stdout("out\n")
        p:stderr("err\n")
        p:exit(7)
    end
    fake.programs["cat -n"] = function(p)
        for bytes in function() return p:read() end do
            p:stdout(bytes:upper())
        end
        p:exit(0)
    end
    fake.programs["echo 'a b' '$x'"] = function(p)
        p:stdout("a b $x\n")
        p:exit(0)
    end
    fake.programs.die = function(p)
        p:exit(-1)
    end
    fake.programs.forever = function(p)
        p:stdout("started\n")
        while true do
            p.changed:wait()
        end
    end
    local env = rig.env(fake)
    return fake, function(words, input)
        return rig.run(words, { env = env, input = input })
    end
end

-- ---- help and usage ------------------------------------------------------------------------

t.test("--help lists the verbs there are, and each has its own help with an example", function()
    local code, out = rig.run { "--help" }
    t.eq(code, 0)
    local listed = {}
    for name in out:match("Verbs.-\n(.-)\n\n"):gmatch("\n?  (%l+) [^\n]*") do
        listed[#listed + 1] = name
    end
    t.eq(listed, main.VERBS)
    local files = {}
    for _, name in ipairs(fs.list("stdlib/cli")) do
        files[#files + 1] = name:match("^(.*)%.lua$")
    end
    table.sort(files)
    local verbs = table.move(main.VERBS, 1, #main.VERBS, 1, {})
    table.sort(verbs)
    t.eq(files, verbs)
    for _, name in ipairs(verbs) do
        t.ok(carried.read("stdlib/cli/" .. name .. ".lua"), name)
        local verb = require("cli." .. name)
        t.match(verb.summary, "^%l.*[^.]$", name)
        t.match(verb.example, "e2blua " .. name, name)
        local help = main.dress(require("argparse")("e2blua " .. name), verb):get_help()
        t.match(help, "Example:\n   ", name)
        for text in help:gmatch("[^\n]+") do
            t.ok(#text <= 100, name .. ": " .. text)
        end
    end
end)

t.test("help of a verb ends with 0", function()
    local code, out = rig.run { "exec", "--help" }
    t.eq(code, 0)
    t.match(out, "^Usage: e2blua exec ")
end)

t.test("a wrong word names the nearest one and ends with 2", function()
    local cases = {
        { { "lst" }, "no verb or script lst; did you mean list%?" },
        { { "list", "--jsn" }, "unknown option '%-%-jsn'; did you mean '%-%-json'%?" },
        { { "engine", "stat" }, "unknown command 'stat'" },
        { { "engine", "statos" }, "did you mean 'status'%?" },
        { { "template" }, "command" },
        { { "kill" }, "give ids or %-%-all" },
        { { "kill", "--all", "x" }, "exclude each other" },
        { { "url", "x", "70000" }, "1 to 65535, not \"70000\"" },
        { { "exec" }, "missing argument" },
        { { "cp", "a", "b" }, "write ID:PATH" },
        { { "shell" }, "needs a terminal" },
        { { "completion", "csh" }, "must be one of" },
    }
    for _, case in ipairs(cases) do
        local code, out, err = rig.run(case[1])
        t.eq(code, 2, table.concat(case[1], " "))
        t.eq(out, "")
        t.match(err, "^e2blua: ")
        t.match(err, case[2])
        t.match(err, "Try: e2blua .*%-%-help")
    end
end)

t.test("completions name every verb for every shell", function()
    for _, shell in ipairs { "bash", "zsh", "fish" } do
        local code, out, err = rig.run { "completion", shell }
        t.eq(code, 0, err)
        for _, name in ipairs(main.VERBS) do
            t.match(out, "%f[%w]" .. name .. "%f[%W]", shell)
        end
    end
    t.match(completion.parser():get_help(), "completion")
end)

t.test("-v says which backend is used and why", function()
    local fake, run = start()
    local _, _, err = run { "-v", "list" }
    local url = fake.url:gsub("%p", "%%%0")
    t.match(err, "backend: remote, at " .. url .. " %(E2BLUA_BACKEND=remote%)")
    _, _, err = run { "list", "-v" }
    t.match(err, "backend: remote")
    t.ok(not err:find(fake_e2b.API_KEY, 1, true), "no secrets")
end)

-- ---- sandboxes -----------------------------------------------------------------------------

t.test("create, list, url and kill", function()
    local fake, run = start()
    local code, out, err = run { "create", "base", "-t", "60", "-e", "A=1", "-m", "k=v" }
    t.eq(code, 0, err)
    local id = t.match(out, "^(i%w+)\n$")
    local body = fake.sandboxes[id].body
    t.eq(body.timeout, 60)
    t.eq(body.envVars, { A = "1" })
    t.eq(body.metadata, { k = "v" })
    code, out = run { "list" }
    t.eq(code, 0)
    t.match(out, "^SANDBOX .-\n" .. id .. " +base +running +2026%-01%-02 03:04:05 ")
    code, out = run { "list", "--json" }
    t.eq(code, 0)
    t.eq(json.decode(out)[1].sandbox_id, id)
    code, out = run { "url", id, "3000" }
    t.eq(code, 0)
    t.match(out, "^http://3000%-" .. id .. "%." .. fake_e2b.DOMAIN .. "\n$")
    code, out, err = run { "kill", id, "inope" }
    t.eq(code, 1)
    t.eq(out, id .. " is gone\n")
    t.match(err, "no sandbox inope; e2blua list")
    code, out, err = run { "list" }
    t.eq({ code, out }, { 0, "" })
    t.match(err, "no sandboxes")
    code, out = run { "list", "--json" }
    t.eq({ code, out }, { 0, "[]\n" })
end)

t.test("kill --all ends all, over several pages", function()
    local fake, run = start()
    for _ = 1, 3 do
        fake:sandbox()
    end
    local code, out = run { "kill", "--all" }
    t.eq(code, 0)
    t.eq(select(2, out:gsub(" is gone\n", "")), 3)
    t.eq(next(fake.sandboxes), nil)
end)

t.test("wrong values are errors, not tracebacks", function()
    local _, run = start()
    local cases = {
        { { "create", "nope" }, "template 'nope' not found" },
        { { "create", "-e", "A" }, "%-%-env must be NAME=VALUE, not \"A\"" },
        { { "create", "-t", "soon" }, "soon" },
        { { "exec", "inope", "--", "ls" }, "Sandbox inope not found\n  e2blua list shows" },
        { { "url", "inope", "80" }, "Sandbox inope not found" },
        { { "cp", "inope:a", "-" }, "Sandbox inope not found" },
    }
    for _, case in ipairs(cases) do
        local code, out, err = run(case[1])
        t.ok(code == 1 or code == 2, case[2])
        t.eq(out, "")
        t.match(err, case[2])
        t.ok(not err:find("traceback", 1, true), err)
    end
end)

-- ---- exec ----------------------------------------------------------------------------------

t.test("exec keeps the streams apart and passes the exit code on", function()
    local fake, run = start()
    local id = fake:sandbox().sandbox_id
    local code, out, err = run { "exec", id, "--", "echo out; echo err >&2; exit 7" }
    t.eq({ code, out, err }, { 7, "out\n", "err\n" })
    t.eq(fake.last_process.message.stdin, false, "/dev/null is no input")
    t.eq(fake:last("POST", "/process.Process/Start").headers["connect-timeout-ms"], nil)
end)

t.test("exec quotes several words, and takes all behind the id as the command", function()
    local fake, run = start()
    local id = fake:sandbox().sandbox_id
    t.eq({ run { "exec", id, "--", "echo", "a b", "$x" } }, { 0, "a b $x\n", "" })
    t.eq({ run { "exec", "-u", "root", "-c", "/tmp", "-e", "A=b=c", id, "echo", "a b", "$x" } },
        { 0, "a b $x\n", "" })
    local m = fake.last_process.message
    t.eq({ m.process.cwd, m.process.envs }, { "/tmp", { A = "b=c" } })
    local code, out = run({ "exec", id, "cat", "-n" }, "more\n")
    t.eq({ code, out }, { 0, "MORE\n" })
end)

t.test("exec streams its input", function()
    local fake, run = start()
    local id = fake:sandbox().sandbox_id
    local input = ("0123456789abcdef"):rep(20000)
    local code, out = run({ "exec", id, "--", "cat", "-n" }, input)
    t.eq(code, 0)
    t.ok(out == input:upper(), #out .. " bytes came back")
end)

t.test("a signal in the sandbox is 255 and said", function()
    local fake, run = start()
    local code, _, err = run { "exec", fake:sandbox().sandbox_id, "die" }
    t.eq(code, 255)
    t.match(err, "ended by a signal %(signal: killed%)")
end)

t.test("a command whose reader has gone is killed", function()
    local fake = start()
    local id = fake:sandbox().sandbox_id
    local code = require("child").start({ "sh", "-c", ("%s exec %s forever | true")
        :format(require("e2b_process").exe(), id) }, { env = rig.env(fake) }):wait()
    t.eq(code, 0)
    require("child").await("the command is not killed", 10, function()
        return fake.last_process and fake.last_process.over
    end)
end)

t.test("Ctrl-C kills the command", function()
    local fake = start()
    local id = fake:sandbox().sandbox_id
    local running = require("child").start({ require("e2b_process").exe(), "exec", id, "forever" },
        { env = rig.env(fake) })
    running:expect("started")
    running:signal "INT"
    t.eq(running:wait(), 130)
    t.eq(fake.last_process.over, true)
end)

-- ---- cp ------------------------------------------------------------------------------------

t.test("cp copies files both ways and through pipes", function()
    local fake, run = start()
    local id = fake:sandbox().sandbox_id
    local dir = t.tmpdir()
    assert(fs.write_file(dir .. "/a.bin", ("\0\1\2\255"):rep(50000)))
    t.eq({ run { "cp", dir .. "/a.bin", id .. ":" } }, { 0, "", "" })
    t.eq(#fake.files["/home/user/a.bin"].data, 200000)
    t.eq({ run { "cp", dir .. "/a.bin", id .. ":/x/b.bin" } }, { 0, "", "" })
    t.eq({ run { "cp", id .. ":/x/b.bin", dir .. "/back" } }, { 0, "", "" })
    t.ok(fs.read_file(dir .. "/back") == fs.read_file(dir .. "/a.bin"))
    t.eq(fs.list(dir .. "/"), { "a.bin", "back" })
    t.eq({ run({ "cp", "-", id .. ":/s" }, "piped") }, { 0, "", "" })
    t.eq(fake.files["/s"].data, "piped")
    t.eq({ run { "cp", id .. ":/s", "-" } }, { 0, "piped", "" })
    local other = fake:sandbox().sandbox_id
    t.eq({ run { "cp", id .. ":/s", other .. ":/t" } }, { 0, "", "" })
    t.eq(fake.files["/t"].data, "piped")
end)

t.test("cp says what is wrong", function()
    local fake, run = start()
    local id = fake:sandbox().sandbox_id
    local dir = t.tmpdir()
    local code, _, err = run { "cp", id .. ":/nope", dir }
    t.eq(code, 1)
    t.match(err, "there is no " .. id .. ":/nope")
    code, _, err = run { "cp", dir .. "/nope", id .. ":" }
    t.eq(code, 1)
    t.match(err, "there is no .*/nope")
    code, _, err = run({ "cp", "-", id .. ":" }, "x")
    t.eq(code, 1)
    t.match(err, "is a folder, and the source has no name")
    code, _, err = run { "cp", id .. ":/home/user", "-" }
    t.eq(code, 1)
    t.match(err, "tar %-cz /home/user")
end)
