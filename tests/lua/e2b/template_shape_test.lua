-- What a template turns into: requests, Dockerfiles, errors of the caller.
local t = require "tests"
local e2b = require "e2b"
local fs = require "e2b_fs"
local json = require "e2b_json"
local shell = require "e2b.template.shell"

local Template = e2b.Template

local function request(template)
    return json.decode(Template.to_json(template))
end

local function command(template)
    return template.steps[#template.steps].args
end

t.test("the request is that of the reference", function()
    local dir = t.tmpdir()
    assert(fs.mkdirs(dir .. "/app"))
    local template = Template { file_context_path = dir }
        :from_image("python:3", { username = "u", password = "p" })
        :copy("app", "/srv/app")
        :pip_install("flask")
        :set_envs { B = "2", A = "1" }
        :set_workdir("/srv/app")
        :set_user("user")
        :set_start_cmd("python -m http.server 8000", e2b.wait_for_port(8000))
    local got = request(template)
    t.match(got.steps[1].filesHash, "^%x+$")
    got.steps[1].filesHash = nil
    t.eq(got, json.decode [[{
        "fromImage": "python:3",
        "fromImageRegistry": {"type": "registry", "username": "u", "password": "p"},
        "force": false,
        "steps": [
            {"type": "COPY", "args": ["app", "/srv/app", "", ""], "force": false},
            {"type": "RUN", "args": ["pip install flask", "root"], "force": false},
            {"type": "ENV", "args": ["A", "1", "B", "2"], "force": false},
            {"type": "WORKDIR", "args": ["/srv/app"], "force": false},
            {"type": "USER", "args": ["user"], "force": false}
        ],
        "startCmd": "python -m http.server 8000",
        "readyCmd": "[ -n \"$(ss -Htuln sport = :8000)\" ]"
    }]])
end)

t.test("a new template begins with E2B's base and has no steps", function()
    t.eq(Template.to_json(Template()), [[{
  "force": false,
  "fromImage": "e2bdev/base",
  "steps": []
}]])
    local got = request(Template():from_base_image():from_template("web:v1"))
    t.eq(got.fromTemplate, "web:v1")
    t.eq(got.fromImage, nil)
    t.eq(request(Template():from_template("x"):from_debian_image()).fromImage, "debian:stable")
    t.eq(request(Template():from_python_image("3.13")).fromImage, "python:3.13")
end)

t.test("skip_cache before is about everything, after about what follows", function()
    local got = request(Template():skip_cache():from_base_image():run_cmd("a"))
    t.eq(got.force, true)
    t.eq(got.steps[1].force, true)
    got = request(Template():from_base_image():run_cmd("a"):skip_cache():run_cmd("b"):run_cmd("c"))
    t.eq(got.force, false)
    t.eq({ got.steps[1].force, got.steps[2].force, got.steps[3].force }, { false, true, true })
end)

t.test("copy: one instruction a source, modes as octal text", function()
    local template = Template()
        :copy({ "a", "b" }, "/x/", { user = "root", mode = tonumber("755", 8) })
        :copy_files("c", "d", { mode = 0, force_upload = true })
        :copy_items { { src = "e", dest = "f", user = "u" } }
    local args = {}
    for i, step in ipairs(template.steps) do
        args[i] = table.concat(step.args, "|")
    end
    t.eq(args, { "a|/x/|root|0755", "b|/x/|root|0755", "c|d||0000", "e|f|u|" })
    t.eq(template.steps[3].force, true)
    t.eq(template.steps[1].force, false)
end)

t.test("copy refuses what lies outside the context", function()
    local e = t.raises("template", Template().copy, Template(), "/etc/passwd", "/x")
    t.eq(e.message, 'Invalid source path "/etc/passwd": absolute paths are not allowed. Use a' ..
        " relative path within the context directory.")
    for _, src in ipairs { "..", "../x", "a/../../x", "./../x" } do
        e = t.raises("template", Template().copy, Template(), src, "/x")
        t.match(e.message, "path escapes the context directory%. The path must stay")
    end
    t.ok(Template():copy("a/../b", "/x"))
end)

t.test("helpers expand to the commands of the reference", function()
    local cases = {
        { "rm -r -f a 'b c'", nil,
            Template():remove({ "a", "b c" }, { force = true, recursive = true }) },
        { "mv a b -f", "root", Template():rename("a", "b", { force = true, user = "root" }) },
        { "mkdir -p -m 0755 /x", nil, Template():make_dir("/x", { mode = tonumber("755", 8) }) },
        { "mkdir -p a b", nil, Template():make_dir { "a", "b" } },
        { "ln -s -f a b", nil, Template():make_symlink("a", "b", { force = true }) },
        { "a && b", "u", Template():run_cmd({ "a", "b" }, { user = "u" }) },
        { "a", nil, Template():run_commands("a") },
        { "pip install .", "root", Template():pip_install() },
        { "pip install --user a b[c]", nil,
            Template():pip_install({ "a", "b[c]" }, { g = false }) },
        { "npm install", nil, Template():npm_install() },
        { "npm install -g --save-dev x", "root",
            Template():npm_install("x", { g = true, dev = true }) },
        { "bun install --dev x", nil, Template():bun_install("x", { dev = true }) },
        { "apt-get update && DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get" ..
            " install -y --no-install-recommends --fix-missing a b", "root",
            Template():apt_install({ "a", "b" },
                { no_install_recommends = true, fix_missing = true }) },
        { "git clone https://x/y.git --branch 'a b' --single-branch --depth 1 dir", nil,
            Template():git_clone("https://x/y.git", "dir", { branch = "a b", depth = 1 }) },
        { "git clone u", "me", Template():git_clone("u", nil, { user = "me" }) },
    }
    for _, case in ipairs(cases) do
        t.eq(command(case[3]), { case[1], case[2] })
    end
    t.eq(#Template():set_envs({}).steps, 0)
end)

t.test("quoting is shlex's", function()
    t.eq(shell.quote "", "''")
    t.eq(shell.quote "a_B-1@%+=:,./", "a_B-1@%+=:,./")
    t.eq(shell.quote "a b", "'a b'")
    t.eq(shell.quote "it's", [['it'"'"'s']])
    t.eq(shell.quote "$x\n", "'$x\n'")
    t.eq(shell.quote "\xC3\xA9", "'\xC3\xA9'")
end)

t.test("ready commands are those of the reference", function()
    t.eq(e2b.wait_for_port(80):get_cmd(), '[ -n "$(ss -Htuln sport = :80)" ]')
    t.eq(e2b.wait_for_url("http://x/?a b", 204):get_cmd(),
        [[curl -s -o /dev/null -w "%{http_code}" 'http://x/?a b' | grep -q "204"]])
    t.eq(e2b.wait_for_process("my app"):get_cmd(), "pgrep 'my app' > /dev/null")
    t.eq(e2b.wait_for_file("/x y"):get_cmd(), "[ -f '/x y' ]")
    t.eq(e2b.wait_for_timeout(20999):get_cmd(), "sleep 20")
    t.eq(e2b.wait_for_timeout(5):get_cmd(), "sleep 1")
    t.eq(e2b.ReadyCmd("true"):get_cmd(), "true")
    t.eq(Template():set_ready_cmd("true").ready_cmd, "true")
    t.raises("invalid_argument", e2b.wait_for_port, 70000)
    t.raises("invalid_argument", e2b.wait_for_port, "80")
    t.raises("invalid_argument", e2b.wait_for_url, 5)
    t.raises("invalid_argument", e2b.wait_for_process, nil)
    t.raises("invalid_argument", e2b.wait_for_file, {})
    t.raises("invalid_argument", e2b.wait_for_timeout, -1)
    t.raises("invalid_argument", e2b.ReadyCmd, nil)
    local e = t.raises("invalid_argument", function()
        Template():set_start_cmd("x")
    end)
    t.match(e.message, "wait_for_port")
end)

t.test("a template can be written as a Dockerfile", function()
    local template = Template():from_image("debian:12"):run_cmd("a", { user = "root" })
        :copy("x", "/y", { user = "u" }):set_envs { K = "v", L = "w" }:set_workdir("/z")
        :set_start_cmd("serve", "true")
    t.eq(Template.to_dockerfile(template), "FROM debian:12\nRUN a\nCOPY x /y\nENV K=v L=w\n" ..
        "WORKDIR /z\nENTRYPOINT serve\n")
    local e = t.raises("template", Template.to_dockerfile, Template():from_template("x"))
    t.match(e.message, "^Cannot convert template built from another template")
end)

t.test("wrong calls name the value and the remedy", function()
    local function wrong(pattern, fn, ...)
        t.match(t.raises("invalid_argument", fn, ...).message, pattern)
    end
    wrong("use ':'.*template:run_cmd", Template.run_cmd, "ls")
    wrong("command must be", Template.run_cmd, Template(), 5)
    wrong("empty list", Template.run_cmd, Template(), {})
    wrong("command%[2%] must be", Template.run_cmd, Template(), { "a", 5 })
    wrong('no option "usr"; did you mean "user"', Template.run_cmd, Template(), "a", { usr = "x" })
    wrong("dest must be", Template.copy, Template(), "a")
    wrong("mode must be", Template.copy, Template(), "a", "b", { mode = "755" })
    wrong("mode must be a file mode", Template.copy, Template(), "a", "b", { mode = 99999 })
    wrong("envs must be", Template.set_envs, Template(), { A = 1 })
    wrong("Both username and password", Template.from_image, Template(), "x", { username = "u" })
    wrong('no option "file_context"', Template, { file_context = "x" })
    wrong("must be a template, not nothing", Template.to_json)
    wrong("must be a template, not a table", Template.build, {}, { name = "x" })
    t.match(t.raises("template", Template.build, Template(), {}).message, "Name must be provided")
    wrong("build_info must be", Template.get_build_status, {})
    wrong("name must be", Template.exists, nil)
end)
