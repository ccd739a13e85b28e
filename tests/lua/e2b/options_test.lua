local t = require "tests"
local options = require "e2b.options"

local SPEC = {
    timeout = "seconds",
    envs = "map",
    format = { "text", "bytes" },
    n = "count",
    api_key = "text",
    on_stdout = "callable",
}

local function check(opts)
    return options.check("files.read", opts, SPEC)
end

t.test("copies what is right", function()
    local given = { timeout = 1.5, envs = { A = "1" }, format = "text", n = 2, on_stdout = print }
    local got = check(given)
    t.eq(got.timeout, 1.5)
    t.ok(not rawequal(got, given))
    t.eq(check(nil), {})
end)

t.test("names the nearest option", function()
    local e = t.raises("invalid_argument", check, { tiemout = 3 })
    t.match(e.message, 'files.read has no option "tiemout"; did you mean "timeout"%?')
    t.match(e.remedy, "api_key, envs, format")
    e = t.raises("invalid_argument", check, { zzzzzzzzz = 3 })
    t.eq(e.message, 'files.read has no option "zzzzzzzzz"')
    t.raises("invalid_argument", check, { "positional" })
end)

t.test("says what a value must be", function()
    local cases = {
        { { timeout = -1 }, "timeout must be a number of seconds, 0 or more, not %-1" },
        { { timeout = 0 / 0 }, "timeout must be" },
        { { timeout = "3" }, 'not "3"' },
        { { envs = { A = 1 } }, "envs must be a table of strings" },
        { { format = "txt" }, 'format must be "text" or "bytes", not "txt"' },
        { { n = 0 }, "n must be an integer of 1 or more" },
        { { n = 1.5 }, "n must be" },
        { { on_stdout = "f" }, "on_stdout must be a function" },
    }
    for _, case in ipairs(cases) do
        t.match(t.raises("invalid_argument", check, case[1]).message, case[2])
    end
    t.match(t.raises("invalid_argument", check, "x").message, 'must be a table, not "x"')
end)

t.test("shows no secrets", function()
    local e = t.raises("invalid_argument", check, { api_key = "e2b_\0secret" })
    t.ok(not e.message:find("secret"))
end)

local PARAMS = { { "path", "text" }, { "depth", "count", true } }

local function arguments(...)
    return options.arguments("files.list", PARAMS, { timeout = "seconds" }, ...)
end

t.test("takes positional arguments, then options", function()
    t.eq(arguments("/a"), { path = "/a" })
    t.eq(arguments("/a", 2), { path = "/a", depth = 2 })
    t.eq(arguments("/a", nil, { timeout = 1 }), { path = "/a", timeout = 1 })
    t.eq(arguments("/a", 2, nil), { path = "/a", depth = 2 })
end)

t.test("takes one table with names", function()
    t.eq(arguments { path = "/a", depth = 3, timeout = 1 }, { path = "/a", depth = 3, timeout = 1 })
    t.match(t.raises("invalid_argument", arguments, { depth = 1 }).message, "path must be")
    t.match(t.raises("invalid_argument", arguments, { pth = "/a" }).message, 'mean "path"')
end)

t.test("refuses what is too much or wrong", function()
    t.match(t.raises("invalid_argument", arguments).message, "path must be a string")
    t.match(t.raises("invalid_argument", arguments, "/a", 1, {}, 4).message, "takes 2 arguments")
    t.match(t.raises("invalid_argument", arguments, "/a\0b").message, "without NUL")
    t.match(t.raises("invalid_argument", arguments, "/a", 1, 5).message, "must be a table, not 5")
end)

t.test("tells '.' from ':'", function()
    local class = {}
    class.__index = class
    options.object("files.read", setmetatable({}, class), class)
    local e = t.raises("invalid_argument", options.object, "files.read", "/a", class)
    t.match(e.message, "use ':', as in sandbox%.files:read")
    options.dot("Sandbox.create", "base", class)
    e = t.raises("invalid_argument", options.dot, "Sandbox.create", class, class)
    t.match(e.message, "use '%.', as in Sandbox%.create")
end)

t.test("finds the nearest name, or none", function()
    t.eq(options.nearest("timout", SPEC), "timeout")
    t.eq(options.nearest("completely", SPEC), nil)
    t.eq(options.spec({ a = "text" }, { b = "map" }), { a = "text", b = "map" })
end)
