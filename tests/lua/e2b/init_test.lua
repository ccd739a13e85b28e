local t = require "tests"
local fake_e2b = require "fake_e2b"
local e2b = require "e2b"

t.test("the module has its parts", function()
    t.ok(e2b.Sandbox.create)
    t.eq(e2b.Error, require "e2b.error")
    t.eq(e2b.ALL_TRAFFIC, "0.0.0.0/0")
    t.eq(e2b.getenv("E2BLUA_NO_SUCH_VARIABLE", "x"), "x")
    t.eq(e2b.gather(function() return 1 end), 1)
    t.ok(e2b.now() > 0)
    t.eq(e2b.nothing, nil)
    t.raises("not_found", e2b.load_dotenv, "/no/such/file")
end)

t.test("json keeps arrays, null and integers", function()
    local json = e2b.json
    t.eq(json.encode({ a = json.array(), b = {}, c = json.null, d = 1 }),
        '{"a":[],"b":{},"c":null,"d":1}')
    t.ok(json.is_array(json.decode("[]")))
    t.eq(json.is_array(json.decode("{}")), false)
    t.eq(json.decode("null"), json.null)
    t.eq(json.decode("false"), false)
    t.raises("protocol", json.decode, "{")
    t.raises("invalid_argument", json.encode, print)
end)

t.test("requiring it loads little", function()
    local program = require("e2b_fs").realpath("/proc/self/exe")
    local pipe = io.popen(program .. [[ -e 'require "e2b" for _, m in ipairs {"e2b_httpc",
        "e2b.sandbox", "e2b.api", "lpeg", "agent"} do print(package.loaded[m]) end']])
    t.eq(pipe:read("a"), ("nil\n"):rep(5))
    pipe:close()
end)

t.test("timestamps", function()
    local timestamp = require "e2b.timestamp"
    t.eq(timestamp.parse("1970-01-01T00:00:00Z"), 0)
    t.eq(timestamp.parse("2000-02-29T23:59:59.999999999Z"), 951868799)
    t.eq(timestamp.parse("2026-01-02T04:04:05+01:00"), 1767323045)
    t.eq(timestamp.parse("1969-12-31T23:59:59-00:30"), 1799)
    for _, bad in ipairs { "", "2026-01-02", "2026-01-02T03:04:05", "x2026-01-02T03:04:05Z" } do
        t.eq(timestamp.parse(bad), nil)
    end
    t.eq(timestamp.parse(nil), nil)
    t.eq(timestamp.format(1767323045), "2026-01-02T03:04:05Z")
end)

t.test("a whole script against a server", function()
    local fake = fake_e2b.start()
    fake.programs["uname -s"] = function(p)
        p:stdout("Linux\n")
        p:exit(0)
    end
    do
        local sbx <close> = e2b.Sandbox.create(fake:options { timeout = 60 })
        t.eq(sbx.commands:run("uname -s").stdout, "Linux\n")
        sbx.files:write("hello.txt", "hi")
        local results = e2b.parallel({ "a", "b", "c" }, 3, function(name)
            sbx.files:write(name, name)
            return sbx.files:read(name)
        end)
        t.eq(results, { "a", "b", "c" })
        t.match(sbx:get_url(8000), "^http://8000%-i%w+%.")
    end
    t.eq(next(fake.sandboxes), nil)
end)
