-- The command line that apps share.
local app = require "agent.app"
local t = require "tests"

local APP = { name = "memo", timeout = 3600, template = "web_app" }

t.test("an app takes its words, or none", function()
    t.eq(app.arguments({}, APP), {})
    t.eq(app.arguments({ "--once", "--record", "a b.jsonl", "--timeout", "90.5", "--template",
        "base" }, APP), { once = true, record = "a b.jsonl", timeout = 90.5, template = "base" })
    t.eq(app.arguments({ "--record=x" }, APP), { record = "x" })
end)

t.test("a wrong word is told with the usage, exit code 2", function()
    for words, text in pairs { [{ "--onc" }] = "unknown option '%-%-onc'",
        [{ "--record" }] = "option '%-%-record' requires an argument",
        [{ "--timeout", "soon" }] = "soon is no number of seconds",
        [{ "--timeout", "-1" }] = "%-1",
        [{ "more" }] = "too many arguments" } do
        local none, said, code = app.arguments(words, APP)
        t.eq({ none, code }, { nil, 2 })
        t.match(said, "^memo: .*" .. text)
        t.match(said, "\nUsage: e2blua apps/memo.lua")
    end
end)

t.test("--help names all options, exit code 0", function()
    local none, text, code = app.arguments({ "--once", "--help" }, APP)
    t.eq({ none, code }, { nil, 0 })
    for _, name in ipairs { "--record FILE", "--timeout SECONDS", "default 3600",
        "--template NAME", "default web_app", "--once" } do
        t.ok(text:find(name, 1, true), name .. " is missing in " .. text)
    end
end)

t.test("an app that says too little or too much is refused", function()
    local run = require("e2b").agent.run_app
    local whole = { name = "memo", task = "t.lua", service_port = 3000 }
    t.raises("invalid_argument", run, nil, whole)
    local e = t.raises("invalid_argument", run, {}, { name = "memo", task = "t.lua" })
    t.match(e.message, "service_port")
    whole.prot = 1
    e = t.raises("invalid_argument", run, {}, whole)
    t.match(e.message, 'has no option "prot"')
end)
