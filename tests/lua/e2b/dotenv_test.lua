local t = require "tests"
local fs = require "e2b_fs"
local dotenv = require "e2b.dotenv"

t.test("parses what .env files hold", function()
    t.eq(dotenv.parse "A=1\nB = two words \nC=\n_d.x-y=z\n",
        { A = "1", B = "two words", C = "", ["_d.x-y"] = "z" })
    t.eq(dotenv.parse "", {})
    t.eq(dotenv.parse "\n  \n# only a comment", {})
end)

t.test("takes CRLF, export, comments, a byte order mark and no last newline", function()
    t.eq(dotenv.parse "\239\187\191A=1\r\n\r\nexport B=2 # said\r\n#C=3\r\nD=a#b",
        { A = "1", B = "2", D = "a#b" })
end)

t.test("takes quotes with escapes and several lines", function()
    t.eq(dotenv.parse [[A="x\ny \"q\" # no comment" # a comment
B='it\'s $HOME \n'
C="first
second"
D=it's]], { A = 'x\ny "q" # no comment', B = "it's $HOME \\n", C = "first\nsecond", D = "it's" })
end)

t.test("names the line that is wrong, and does not show it", function()
    local cases = {
        { "A=1\nsecret stuff\n", ":2: not an assignment" },
        { "A=1\n\n1B=2\n", ":3: not an assignment" },
        { 'A=1\r\nB="secret\r\nC=2', ":2: the quoted value does not end" },
        { "A='x' secret\n", ":1: the quoted value does not end, or text follows it" },
        { "A=1\nB=\0secret\n", ":2: binary data" },
        { "A=1\nB=2\nC=\255\254\n", ":3: binary data" },
    }
    for _, case in ipairs(cases) do
        local e = t.raises("invalid_argument", dotenv.parse, case[1], "dir/.env")
        t.match(e.message, "^dir/%.env" .. case[2])
        t.ok(not e.message:find("secret"), e.message)
        t.match(e.remedy, "NAME=value")
    end
    t.raises("invalid_argument", dotenv.parse, 5)
end)

t.test("loads a file whose values lose against the environment", function()
    local dir = t.tmpdir()
    fs.write_file(dir .. "/my.env", "PATH=mine\nE2BLUA_DOTENV_TEST=value\nE2BLUA_EMPTY_TEST=\n")
    t.eq(dotenv.load(dir .. "/my.env"), dir .. "/my.env")
    t.eq(dotenv.getenv("PATH"), os.getenv("PATH"))
    t.eq(dotenv.getenv("E2BLUA_DOTENV_TEST", "default"), "value")
    t.eq(dotenv.getenv("E2BLUA_EMPTY_TEST", "default"), "")
    t.eq(dotenv.lookup("E2BLUA_EMPTY_TEST"), nil)
    t.eq({ dotenv.lookup("E2BLUA_DOTENV_TEST") }, { "value", ".env" })
    t.eq(select(2, dotenv.lookup("PATH")), "environment")
    t.eq(os.getenv("E2BLUA_DOTENV_TEST"), nil)
    t.eq(dotenv.getenv("E2BLUA_NOT_SET_TEST", 7), 7)
end)

t.test("a missing file, a folder and a wrong name are errors", function()
    t.raises("not_found", dotenv.load, t.tmpdir() .. "/none.env")
    t.raises("invalid_argument", dotenv.load, 5)
    t.raises("invalid_argument", dotenv.getenv)
    t.ok(not pcall(dotenv.load, t.tmpdir()))
end)

-- Runs a script of its own, in an environment of its own.
local function run(dir, env, script, ...)
    local program = fs.realpath("/proc/self/exe")
    local command = ("cd %s && env -u E2B_API_KEY -u E2BLUA_BACKEND %s %s %s 2>&1"):format(
        dir, env, program, script)
    local pipe = io.popen(command)
    local text = pipe:read("a")
    pipe:close()
    return text, ...
end

local SHOW = 'print((require "e2b").getenv("E2BLUA_PROJECT", "none"))'

local function project(with_git)
    local dir = fs.realpath(t.tmpdir())
    fs.mkdirs(dir .. "/p/scripts/apps")
    fs.mkdirs(dir .. "/p/deep/down")
    fs.mkdirs(dir .. "/other")
    fs.write_file(dir .. "/p/.env", "E2BLUA_PROJECT=p\n")
    fs.write_file(dir .. "/p/scripts/apps/x.lua", SHOW)
    fs.write_file(dir .. "/other/y.lua", SHOW)
    if with_git then
        fs.mkdirs(dir .. "/p/deep/.git")
    end
    return dir
end

t.test("finds the .env of the script's project, else of the folder it runs in", function()
    local dir = project(false)
    t.eq(run(dir, "", dir .. "/p/scripts/apps/x.lua"), "p\n")
    t.eq(run(dir .. "/p/deep/down", "", "-e '" .. SHOW .. "'"), "p\n")
    t.eq(run(dir .. "/p/deep/down", "", dir .. "/other/y.lua"), "p\n")
    t.eq(run(dir .. "/other", "", dir .. "/other/y.lua"), "none\n")
    t.eq(run(dir, "E2BLUA_PROJECT=env", dir .. "/p/scripts/apps/x.lua"), "env\n")
end)

t.test("does not look above a .git root or the home folder", function()
    local dir = project(true)
    t.eq(run(dir .. "/p/deep/down", "", "-e '" .. SHOW .. "'"), "none\n")
    dir = project(false)
    t.eq(run(dir .. "/p/deep/down", "HOME=" .. dir .. "/p/deep", "-e '" .. SHOW .. "'"), "none\n")
end)

t.test("a bad .env of the project stops the script and names the line", function()
    local dir = project(false)
    fs.write_file(dir .. "/p/.env", "A=1\nnonsense\n")
    t.match(run(dir, "", dir .. "/p/scripts/apps/x.lua"),
        "x%.lua:1: .*/p/%.env:2: not an assignment")
end)

t.test("warns when a project decides where the user's key is sent", function()
    local dir = project(false)
    fs.write_file(dir .. "/p/.env", "E2B_API_URL=http://127.0.0.1:9\n")
    fs.write_file(dir .. "/p/scripts/apps/x.lua",
        'print(require("e2b.config").resolve().api_url)')
    local text = run(dir, "E2BLUA_BACKEND= E2B_API_KEY=e2b_secret", dir .. "/p/scripts/apps/x.lua")
    t.match(text, "warning: E2B_API_URL comes from the project's %.env")
    t.match(text, "http://127%.0%.0%.1:9")
    t.ok(not text:find("e2b_secret"), text)
end)
