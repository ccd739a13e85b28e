-- The verbs against the real engine.
local fs = require "e2b_fs"
local json = require "e2b_json"
local rig = require "engine_rig"
local run = require("cli_rig").run
local t = require "tests"
local terminal_rig = require "terminal_rig"

t.before(rig.warm_up)

t.test("a terminal: size, Ctrl-C, exit code", function()
    local sbx = rig.sandbox()
    local shown = ""
    local handle = sbx.pty:create { cols = 91, rows = 33, envs = { PS1 = "$ " },
        on_data = function(bytes)
            shown = shown .. bytes
        end }
    local function until_shown(text)
        require("child").await("the terminal does not show " .. text, 10, function()
            return shown:find(text, 1, true)
        end)
    end
    until_shown("$ ")
    handle:send_stdin("stty size; tty; echo $TERM; id -un\r")
    until_shown("user\r\n")
    handle:send_stdin("echo $((40+1)); sleep 1000\r")
    until_shown("41\r\n")
    handle:send_stdin("\3")
    until_shown("^C")
    sbx.pty:resize(handle.pid, { cols = 50, rows = 20 })
    handle:send_stdin("stty size; exit 6\r")
    local e = t.raises("command_exit", handle.wait, handle)
    t.eq(e.result.exit_code, 6)
    t.match(shown, "33 91\r\n/dev/pts/%d+\r\nxterm%-256color\r\nuser\r\n")
    t.match(shown, "20 50\r\n")
    t.eq(sbx.pty:kill(handle.pid), false)
end)

t.test("a terminal is followed and killed", function()
    local sbx = rig.sandbox()
    local first = sbx.pty:create { cols = 80, rows = 24 }
    local shown = ""
    local second = sbx.pty:connect(first.pid, {
        on_data = function(bytes)
            shown = shown .. bytes
        end })
    second:send_stdin("echo $((20+22))\r")
    require("child").await("the second hears nothing", 10, function()
        return shown:find("42\r\n", 1, true)
    end)
    t.eq(second:kill(), true)
    t.eq(t.raises("command_exit", first.wait, first).result.exit_code, -1)
    t.eq(t.raises("command_exit", second.wait, second).result.exit_code, -1)
end)

t.test("create, list, exec, url and kill", function()
    local code, out, err = run { "create", "--timeout", "60", "--no-internet" }
    t.eq(code, 0, err)
    local id = t.match(out, "^(i%w+)\n$")
    t.match(select(2, run { "list" }), id .. " +base +running")
    t.eq({ run { "exec", id, "--", "sh", "-c", "echo out; echo err >&2; exit 7" } },
        { 7, "out\n", "err\n" })
    t.eq({ run({ "exec", id, "wc -c" }, { input = ("x"):rep(300000) }) }, { 0, "300000\n", "" })
    t.eq({ run { "exec", "-u", "root", "-c", "/tmp", "-e", "A=1", id, "--", "sh", "-c",
        "id -un; pwd; echo $A" } }, { 0, "root\n/tmp\n1\n", "" })
    t.match(select(2, run { "url", id, "3000" }),
        "^http://3000%-" .. id .. "%.e2b%.localhost:%d+\n$")
    t.eq({ run { "kill", id } }, { 0, id .. " is gone\n", "" })
    t.eq((run { "kill", id }), 1)
end)

t.test("cp copies folders with their links and modes, both ways", function()
    local sbx = rig.sandbox()
    local id, dir = sbx.sandbox_id, t.tmpdir()
    assert(fs.mkdirs(dir .. "/site/sub dir"))
    assert(fs.write_file(dir .. "/site/a", "a"))
    assert(fs.write_file(dir .. "/site/sub dir/run", "#!/bin/sh\necho ran\n", 493))
    assert(os.execute(("ln -s 'sub dir/run' '%s/site/link'"):format(dir)))
    t.eq({ run { "cp", dir .. "/site", id .. ":" } }, { 0, "", "" })
    t.eq(sbx.commands:run("site/link && stat -c %U site/a && ls /tmp").stdout, "ran\nuser\n")
    t.eq({ run { "cp", dir .. "/site", id .. ":copy" } }, { 0, "", "" })
    t.eq({ run { "cp", id .. ":copy", dir } }, { 0, "", "" })
    t.eq(os.execute(("diff -r '%s/site' '%s/copy'"):format(dir, dir)), true)
    t.eq({ run { "cp", id .. ":copy", id .. ":/tmp/third" } }, { 0, "", "" })
    t.eq(sbx.commands:run("diff -r copy /tmp/third").exit_code, 0)
    t.eq({ run { "cp", id .. ":copy/a", "-" } }, { 0, "a", "" })
    local code, _, err = run { "cp", dir .. "/site", id .. ":copy/a" }
    t.eq(code, 1)
    t.match(err, "is a file")
end)

t.test("shell is bash on a terminal", function()
    local sbx = rig.sandbox()
    local r = terminal_rig.run({ "shell", sbx.sandbox_id }, {
        { "wait", "$ " }, { "send", "stty size; echo A$((1+1))\r" }, { "wait", "A2" },
        { "size", 40, 100 }, { "pause", 0.5 }, { "send", "stty size; echo A$((2+1))\r" },
        { "wait", "40 100" }, { "wait", "A3" }, { "send", "sleep 100\r" }, { "pause", 0.3 },
        { "send", "\3" }, { "send", "echo A$((3+1))\r" }, { "wait", "A4" }, { "send", "\4" },
    })
    t.eq({ r.code, r.raw, r.restored }, { 0, true, true })
    t.match(r.shown, "24 80\r\n")
end)

t.test("logs and metrics", function()
    local id = rig.sandbox().sandbox_id
    local code, out, err = run { "logs", id }
    t.eq(code, 0, err)
    t.match(out, "^%d+%-%d+%-%d+T%S+Z info  the sandbox ")
    local first = json.decode(select(2, run { "logs", "--json", id }):match("^[^\n]+"))
    t.eq(first.level, "info")
    t.ok(not select(2, run { "logs", "--level", "error", id }):find("info", 1, true))
    code, out, err = run { "metrics", id }
    t.eq(code, 0, err)
    t.match(out, "^%d+%-%d+%-%d+ %S+  cpu +[%d.]+ %% of %d+  memory %d+ MiB of %d+ MiB  disk ")
    t.ok(json.decode(select(2, run { "metrics", "--json", id })).mem_total >= 1 << 28)
    code, out, err = run { "metrics", "inope" }
    t.eq({ code, out }, { 1, "" })
    t.match(err, "Sandbox inope not found")
end)

t.test("template list, engine status and doctor", function()
    local code, out, err = run { "template", "list", "--json" }
    t.eq(code, 0, err)
    t.eq(json.decode(out)[1].aliases, json.array { "base" })
    t.match(select(2, run { "template", "list" }), "base +ready")
    code, out, err = run { "template", "delete", "no-such" }
    t.eq({ code, out }, { 1, "" })
    t.match(err, "no template no%-such")
    t.match(select(2, run { "engine", "status" }), "engine +pid %d+, port %d+")
    t.match(select(2, run { "engine", "logs" }), "info")
    code, out, err = run { "doctor", "--json" }
    t.eq(code, 0, out .. err)
    local seen = {}
    for _, finding in ipairs(json.decode(out)) do
        seen[finding.what:match("^[%w ]+")] = finding.level
    end
    t.eq(seen.root or seen["user e2blua"], "ok")
    t.eq(seen["user namespaces"], "ok")
end)
