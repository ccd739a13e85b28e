-- The examples, each as its own process; what they print. first.lua has a test
-- of its own.
local child = require "child"
local fs = require "e2b_fs"
local process = require "e2b_process"
local rig = require "engine_rig"
local t = require "tests"

t.before(rig.warm_up)

-- Name -> pattern of the whole output.
local EXAMPLES = {
    background_server = "^http://8000%-%w+%.e2b%.localhost:%d+\n"
        .. "<h1>Hello from the sandbox</h1>\n\nnobody listens any more\n$",
    custom_task = "ok sandbox .*\nHello, Ada\n\nthe task left greeting.txt %(11 bytes%)\n"
        .. "the task left hello.py %(46 bytes%)\n$",
    dockerfile_like = "^FROM e2bdev/base\nENV APP_ENV=production\nWORKDIR /home/user/app\n"
        .. "RUN .*\nstarted\n/home/user/app\n__pycache__\nmain.py\n$",
    dotenv = "^hello, world, secret: unknown\n\nhere the secret has 6 characters\n$",
    files = "^file\t7\t2.txt\nfile\t6\tone.txt\none.txt says first\n\nbig.bin has 4 MiB\n"
        .. "notes is gone\n$",
    languages = "^python works\njavascript works\nbash works\nfalse\tcommand_exit\t"
        .. "NameError: name 'undefined' is not defined\n$",
    metrics = "cpu %d+ %% of 2, memory %d+ MiB of 1024\n"
        .. "warning: sandbox %w+: 9%d %% of its memory is used %(%d+ MiB of 1024 MiB%)\n$",
    parallel = "^red\t3\ngreen\t5\nblue\t4\ncyan\t4\nteal\t4\ngrey\t4\n$",
    reuse = "^task 1: \ntask 2: \ntask 3: 3\ntask 4: apple,fig,pear\n$",
    streaming = "^out: line 1\nout: line 2\nout: line 3\nerr: oh\n"
        .. "seq wrote 6888896 bytes and exited with 0\n$",
    template_test = "^the template is as it should be\n$",
}
local ELSEWHERE = { first = true }

for name, pattern in pairs(EXAMPLES) do
    t.test("examples/" .. name .. ".lua does what it shows", function()
        if name == "metrics" then
            rig.needs_limits(rig.sandbox())
        end
        local code, out = child.start({ process.exe(), "examples/" .. name .. ".lua" },
            { dir = fs.cwd() }):wait(50)
        t.eq(code, 0, out)
        t.match(out, pattern)
    end)
end

t.test("every example is run, and named in the README", function()
    local readme = fs.read_file("examples/README.md")
    for _, file in ipairs(fs.list("examples")) do
        local name = file:match("^(.*)%.lua$")
        t.ok(not name or EXAMPLES[name] or ELSEWHERE[name], "nobody runs " .. file)
        t.ok(not name or readme:find("| " .. name .. " |", 1, true),
            file .. " is not in the README")
    end
end)
