-- Instructions of templates, built by the real engine, looked at in sandboxes.
-- Uses the engine of $E2BLUA_HOME.
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local json = require "e2b_json"
local rig = require "engine_rig"
local t = require "tests"
local task = require "e2b_task"
local world = require "template_world"

t.before(world.warm_up)

-- Nothing comes from the cache, which earlier runs have filled.
local function build(template, prefix, opts)
    local name = world.unique(prefix)
    opts = opts or {}
    opts.skip_cache = true
    local info, log = world.build(template, name, opts)
    return name, info, log
end

t.test("RUN is a login shell of the user, or of root when asked", function()
    local name = build(world.template()
        :run_cmd("id -un > ~/who; pwd > ~/where; shopt -q login_shell && touch ~/login")
        :run_cmd("id -un > /root/who", { user = "root" })
        :run_commands({ "echo one > /tmp/list", "cp /tmp/list ~/list", "echo two >> ~/list" })
        :run_cmd("echo 'a  \"b\" $HOME' > ~/quotes"), "run")
    t.eq(world.output(name, "cat who where list quotes /root/who; ls login; ls -A /tmp",
        { user = "root", cwd = "/home/user" }),
        "user\n/home/user\none\ntwo\na  \"b\" $HOME\nroot\nlogin\n")
end)

t.test("COPY of a file: to a name, into a folder, with mode and owner", function()
    local dir = world.folder { ["a.txt"] = "A\n", ["tool.sh"] = "#!/bin/sh\necho tool\n" }
    local name = build(world.template { file_context_path = dir }
        :copy("a.txt", "/srv/deep/name.txt")
        :copy("a.txt", "/srv/folder/")
        :copy("a.txt", "/var/lib")
        :copy("a.txt", "relative.txt")
        :copy("tool.sh", "/usr/local/bin/tool", { mode = tonumber("755", 8), user = "root" })
        :copy("a.txt", "/srv/grouped", { user = "user:games", mode = tonumber("640", 8) }), "copy")
    t.eq(world.output(name, "cat /srv/deep/name.txt /srv/folder/a.txt /var/lib/a.txt relative.txt;"
        .. " tool; stat -c '%U:%G %a %n' /srv/deep/name.txt /usr/local/bin/tool /srv/grouped"
        .. " relative.txt"),
        "A\nA\nA\nA\ntool\nuser:user 644 /srv/deep/name.txt\nroot:root 755 /usr/local/bin/tool\n"
        .. "user:games 640 /srv/grouped\nuser:user 644 relative.txt\n")
end)

t.test("COPY of a folder merges its contents, of a pattern what matches", function()
    local dir = world.folder { ["app/a.txt"] = "A", ["app/sub/b.txt"] = "B", ["app/.hidden"] = "H",
        ["one.md"] = "1", ["two.md"] = "2", ["three.txt"] = "3", ["b{r}/c.txt"] = "braces" }
    assert(os.execute(("ln -s a.txt %s/app/link && ln -s /nowhere %s/broken"):format(dir, dir)))
    local name = build(world.template { file_context_path = dir }
        :run_cmd("mkdir -p /srv/into/sub && echo old > /srv/into/a.txt"
            .. " && echo kept > /srv/into/kept && chmod 750 /srv/into && ln -s into /srv/away",
            { user = "root" })
        :copy("app", "/srv/into")
        :copy("app/*", "/srv/star")
        :copy("app", "/srv/away/linked")
        :copy("*.md", "/srv/md/")
        :copy("**/*.txt", "/srv/all")
        :copy("broken", "/srv/dangling")
        :copy("b{r}", "/srv/braces")
        :copy("app/link", "/srv/real", { resolve_symlinks = true })
        :copy({ "one.md", "two.md" }, "/srv/two/"), "tree")
    t.eq(world.output(name, [[cd /srv
        cat into/a.txt into/sub/b.txt into/kept into/.hidden; readlink into/link
        stat -c '%U %a' into; ls -A star; ls into/linked
        ls md two; find all -type f | sort; readlink dangling
        cat braces/c.txt; stat -c %F real; cat real]], { user = "root" }),
        "ABkept\nHa.txt\nroot 750\n.hidden\na.txt\nlink\nsub\na.txt\nlink\nsub\n"
        .. "md:\none.md\ntwo.md\n\ntwo:\none.md\ntwo.md\n"
        .. "all/app/a.txt\nall/app/sub/b.txt\nall/b{r}/c.txt\nall/three.txt\n/nowhere\n"
        .. "bracesregular file\nA")
end)

local USUAL = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

t.test("ENV reaches RUN and the start command, expands root's variables, adds to PATH", function()
    local name = build(world.template()
        :set_envs { GREETING = "hi  'there' \"you\" `no` $(no) \\", FROM_HOME = "$HOME/x",
            UNKNOWN = "<$NOT_SET>" }
        :set_envs { PATH = "/opt/mine:$PATH", LATER = "$GREETING" }
        -- A login shell sets PATH anew (in E2B too); what it was given shows in /proc.
        :run_cmd("printf '%s|' \"$GREETING\" \"$FROM_HOME\" \"$UNKNOWN\" \"$LATER\" > ~/env;"
            .. " tr '\\0' '\\n' < /proc/$$/environ | grep ^PATH= >> ~/env")
        :set_envs { GREETING = "second" }
        :set_start_cmd("printf %s \"$GREETING\" > ~/started; sleep 100",
            Template.wait_for_file("/home/user/started")), "env")
    t.eq(world.output(name, "cat env started; printf '%s' \"${GREETING-none}\""),
        "hi  'there' \"you\" `no` $(no) \\|/root/x|<>||PATH=/opt/mine:"
        .. USUAL .. ":" .. USUAL .. "\nsecondnone")
end)

t.test("WORKDIR is made for the user, nests, and is the sandbox's", function()
    local name = build(world.template()
        :set_workdir("/srv/new/deep")
        :set_workdir("below")
        :run_cmd("touch here")
        :set_workdir("/var/lib")
        :set_workdir("/srv/new"), "workdir")
    t.eq(world.output(name, "pwd; stat -c '%U:%G %n' /srv /srv/new /srv/new/deep/below"
        .. " /srv/new/deep/below/here /var/lib"),
        "/srv/new\nroot:root /srv\nuser:user /srv/new\nuser:user /srv/new/deep/below\n"
        .. "user:user /srv/new/deep/below/here\nroot:root /var/lib\n")
end)

t.test("USER makes a new user, who is the sandbox's, without sudo", function()
    local name = build(world.template()
        :set_user("mara")
        :run_cmd("id -un > who")
        :set_workdir("own")
        :set_user("nobody")
        :set_workdir("/srv/nobody")
        :set_user("mara"), "user")
    t.eq(world.output(name, "id -un; pwd; cat ~/who; stat -c %U:%G /srv/nobody /own;"
        .. " sudo -n true 2>/dev/null || echo no sudo"),
        "mara\n/srv/nobody\nmara\nnobody:nogroup\nmara:mara\nno sudo\n")
end)

t.test("the other methods do what their names say", function()
    local dir = world.folder { ["a"] = "A", ["b"] = "B" }
    local name = build(world.template { file_context_path = dir }
        :copy_items { { src = "a", dest = "a" }, { src = "b", dest = "b" } }
        :make_dir({ "one", "two words" }, { mode = tonumber("700", 8) })
        :rename("a", "one/a")
        :remove("b")
        :make_symlink("one/a", "link"), "other")
    t.eq(world.output(name, "stat -c '%a %n' one 'two words'; cat link;"
        .. " ls b 2>/dev/null || echo gone"),
        "700 one\n700 two words\nAgone\n")
end)

t.test("a template on a template inherits user, folder, variables and start command", function()
    local parent = build(world.template()
        :set_user("mara"):set_workdir("/srv/app"):set_envs { KEPT = "kept" }
        :set_start_cmd("id -un > /tmp/started; pwd >> /tmp/started; echo $KEPT >> /tmp/started;"
            .. " sleep 100", "test $(wc -l < /tmp/started) = 3"), "parent")
    local child, _, log = build(Template():from_template(parent)
        :run_cmd("printf '%s %s %s' $(id -un) $(pwd) $KEPT > ran")
        :set_user("user"):set_envs { KEPT = "changed" }:set_workdir("/home/user"), "child")
    t.eq(world.count(log, "Running start command"), 1, "what it inherits is tried on what it adds")
    t.eq(world.output(child, "cat /srv/app/ran /tmp/started; pwd; id -un"),
        "mara /srv/app keptmara\n/srv/app\nkept\n/home/user\nuser\n")
    local other = build(Template():from_template(parent)
        :set_start_cmd("echo other > /tmp/started; sleep 100",
            Template.wait_for_file("/tmp/started")), "other")
    t.eq(world.output(other, "cat /tmp/started; pwd"), "other\n/srv/app\n")
end)

t.test("names and tags", function()
    local name = world.unique("tags")
    t.eq(Template.exists(name), false)
    local first = world.build(world.template():run_cmd("echo 1 > ~/v"), name .. ":v1")
    t.eq(first.tags, { "v1" })
    t.eq(Template.exists(name), true)
    t.eq({ Template.exists(name .. ":v1"), Template.exists(name .. ":v2") }, { true, false })
    local e = t.raises("sandbox", Sandbox.create, name)
    t.ok(e.message:find("tag 'default' does not exist for template '" .. name .. "'", 1, true),
        e.message)
    local second = world.build(world.template():run_cmd("echo 2 > ~/v"), name,
        { tags = { "v2", "stable" } })
    t.eq(second.template_id, first.template_id)
    t.eq(world.output(name .. ":v1", "cat v") .. world.output(name .. ":v2", "cat v")
        .. world.output(name .. ":stable", "cat v"), "1\n2\n2\n")
    Template.assign_tags(name .. ":v1", { "default", "prod" })
    t.eq(world.output(name, "cat v") .. world.output(first.template_id .. ":prod", "cat v"),
        "1\n1\n")
    Template.remove_tags(name, "stable")
    t.eq(Template.exists(name .. ":stable"), false)
    local tags = {}
    for i, tag in ipairs(Template.get_tags(name)) do
        tags[i] = tag.tag
    end
    t.eq(tags, { "default", "prod", "v1", "v2" })
    t.eq(world.output(name:upper(), "cat v"), "1\n", "names are lower-cased")
end)

t.test("cpu_count and memory_mb are the sandbox's", function()
    local name = build(world.template(), "size", { cpu_count = 1, memory_mb = 256 })
    local sandbox <close> = world.sandbox(name)
    local info = sandbox:get_info()
    t.eq({ info.cpu_count, info.memory_mb }, { 1, 256 })
    rig.needs_limits(sandbox)
    local grab = "python3 -c 'x = bytearray(%d << 20); print(len(x) >> 20)'"
    t.eq(sandbox.commands:run(grab:format(100)).stdout, "100\n")
    t.raises("command_exit", sandbox.commands.run, sandbox.commands, grab:format(400))
    -- Two busy processes get the time of one processor.
    local out = sandbox.commands:run([[python3 -c '
import os, time
begin = time.monotonic()
if os.fork() == 0:
    while time.monotonic() - begin < 1: pass
    os._exit(0)
while time.monotonic() - begin < 1: pass
os.wait()
a = os.times()
print((a.user + a.children_user + a.system + a.children_system) / (time.monotonic() - begin))']])
    t.ok(tonumber(out.stdout) < 1.3, "used " .. out.stdout .. " processors")
end)

t.test("a template has a JSON form without an engine", function()
    local dir = world.folder { ["a.txt"] = "A\n" }
    local doc = json.decode(Template.to_json(Template { file_context_path = dir }
        :from_base_image():copy("a.txt", "/srv/"):set_envs { B = "2", A = "1" }
        :run_cmd({ "a", "b" }):set_workdir("/srv"):set_user("user"):run_cmd("c", { user = "root" })
        :set_start_cmd("serve", Template.wait_for_port(3000))))
    t.eq(doc.fromImage, "e2bdev/base")
    t.match(doc.steps[1].filesHash, "^%x+$")
    doc.steps[1].filesHash = nil
    local got = {}
    for i, step in ipairs(doc.steps) do
        got[i] = step.type .. " " .. table.concat(step.args, ",")
    end
    t.eq(got, { "COPY a.txt,/srv/,,", "ENV A,1,B,2", "RUN a && b", "WORKDIR /srv", "USER user",
        "RUN c,root" })
    t.eq(doc.startCmd, "serve")
    t.eq(doc.readyCmd, '[ -n "$(ss -Htuln sport = :3000)" ]')
end)

-- ---- start and ready commands ----------------------------------------------------------------

-- The five ways to be ready: what comes up a little later, and what tells.
local READY = {
    port = { "sleep 0.3; exec python3 -m http.server 3000", Template.wait_for_port(3000),
        "ss -Htln sport = :3000 | wc -l", "1\n" },
    url = { "cd /etc; sleep 0.3; exec python3 -m http.server 3000",
        Template.wait_for_url("http://localhost:3000/hostname"),
        "curl -s -o /dev/null -w '%{http_code}' localhost:3000/hostname", "200" },
    status = { "cd /etc; sleep 0.3; exec python3 -m http.server 3000",
        Template.wait_for_url("http://localhost:3000/none", 404),
        "curl -s -o /dev/null -w '%{http_code}' localhost:3000/none", "404" },
    process = { "python3 -c 'import time; time.sleep(0.3)'; exec sleep 98",
        Template.wait_for_process("sleep"), "pgrep -xc sleep", "1\n" },
    file = { "sleep 0.3; echo up > /tmp/new; mv /tmp/new '/tmp/is up'; sleep 99",
        Template.wait_for_file("/tmp/is up"),
        "cat '/tmp/is up'", "up\n" },
}

for kind, case in pairs(READY) do
    t.test("the start command is up when create returns: " .. kind, function()
        local name, _, log = build(world.template():set_start_cmd(case[1], case[2]), "start")
        t.eq(world.count(log, "Template is ready"), 1)
        t.eq(world.output(name, case[3]), case[4])
    end)
end

t.test("wait_for_timeout is a wait at build only", function()
    local name, _, log = build(world.template():set_start_cmd("echo up > /tmp/up; sleep 99",
        Template.wait_for_timeout(1500)), "timeout")
    t.eq(world.count(log, "Waiting for template to be ready: sleep 1"), 1)
    local began = task.now()
    local sandbox <close> = world.sandbox(name)
    t.ok(task.now() - began < 1, "create has waited")
    t.eq(sandbox.commands:run("until [ -f /tmp/up ]; do sleep 0.01; done; cat /tmp/up").stdout,
        "up\n")
end)

t.test("the start command's output is in the log of the build", function()
    local _, _, log = build(world.template():set_start_cmd(
        "echo to stdout; echo to stderr >&2; touch /tmp/up; sleep 99",
        Template.wait_for_file("/tmp/up")), "output")
    t.eq(world.count(log, "[start] [stdout]: to stdout"), 1)
    t.eq(world.count(log, "[start] [stderr]: to stderr"), 1)
    local last = log[#log - 1].message
    t.match(last, "^Build finished, took")
end)

t.test("a ready command alone needs no start command", function()
    local name = build(world.template():set_ready_cmd("true"), "ready")
    t.eq(world.output(name, "echo fine"), "fine\n")
end)
