-- What run_code says before it asks a sandbox; tests/engine has the rest.
local t = require "tests"
local fs = require "e2b_fs"
local fake_e2b = require "fake_e2b"
local run_code = require "e2b.run_code"

t.test("a file's language is told by its name", function()
    for name, language in pairs { ["a.py"] = "python", ["b/c.js"] = "javascript",
        ["d.sh"] = "bash", ["e.f.lua"] = "lua" } do
        t.eq(run_code.language_of(name), language)
    end
    t.eq(run_code.language_of("x.rb"), nil)
    t.eq(run_code.language_of("py"), nil)
end)

t.test("wrong arguments are told without a request", function()
    local fake = fake_e2b.start()
    local sandbox <close> = fake:sandbox()
    local n, dir = #fake.requests, t.tmpdir()
    local e = t.raises("invalid_argument", sandbox.run_code, sandbox, "pyton", "x.py")
    t.match(e.message,
        'must be "bash" or "javascript" or "lua" or "python", not "pyton"')
    t.raises("invalid_argument", sandbox.run_code, sandbox, nil, "x.py")
    t.raises("invalid_argument", sandbox.run_code, sandbox, "python")
    t.raises("invalid_argument", sandbox.run_code, sandbox, "python", "x.py", { arguments = {} })
    t.raises("invalid_argument", sandbox.run_code, sandbox, "python", "x.py", { args = { 1 } })
    e = t.raises("file_not_found", sandbox.run_code, sandbox, "python", dir .. "/x.py")
    t.match(e.message, "there is no file .*/x.py on this machine: .*No such file")
    assert(fs.mkdirs(dir .. "/y.py"))
    e = t.raises("invalid_argument", sandbox.run_code, sandbox, "python", dir .. "/y.py")
    t.match(e.message, "y.py is a dir, not a file")
    e = t.raises("invalid_argument", sandbox.run_code, "python", "x.py")
    t.match(e.message, "use ':'")
    t.eq(#fake.requests, n)
end)
