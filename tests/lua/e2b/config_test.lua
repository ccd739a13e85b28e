local t = require "tests"
local config = require "e2b.config"

local function resolve(opts)
    return config.resolve(opts)
end

t.test("explicit options say which server", function()
    local c = resolve { api_url = "http://127.0.0.1:3000/", api_key = "e2b_1", domain = "x.test" }
    t.eq(c.backend, "remote")
    t.eq(c.api_url, "http://127.0.0.1:3000")
    t.eq(c.domain, "x.test")
    t.eq(c.scheme, "http")
    t.match(c.why, "option api_url")
    t.eq(c.headers["X-API-KEY"], "e2b_1")
    t.match(c.headers["User-Agent"], "^e2blua/%d")
    t.eq(c.agent_headers["X-API-KEY"], nil)
    t.eq(c.request_timeout, 60)
    t.eq(c.retries, 3)
end)

t.test("headers of the caller go to the control plane, not over the key", function()
    local c = resolve {
        api_url = "http://127.0.0.1:3000",
        api_key = "e2b_1",
        headers = { A = "1", B = "1" },
        api_headers = { B = "2", ["X-API-KEY"] = "other" },
    }
    t.eq(c.headers.A, "1")
    t.eq(c.headers.B, "2")
    t.eq(c.headers["X-API-KEY"], "e2b_1")
    t.eq(c.agent_headers.A, nil)
end)

t.test("refuses what is no URL and what contradicts itself", function()
    local e = t.raises("invalid_argument", resolve, { api_url = "127.0.0.1:3000", api_key = "k" })
    t.match(e.message, "option api_url must be a URL that begins with http://")
    e = t.raises("invalid_argument", resolve,
        { api_url = "http://127.0.0.1", api_key = "k", retries = -1 })
    t.match(e.message, "retries must be 0 or more")
end)

t.test("knows this machine", function()
    for _, url in ipairs { "http://localhost:1", "http://127.0.0.1", "https://127.3.4.5:9/x",
        "http://[::1]:80", "http://a.b.localhost:1/" } do
        t.ok(config.is_loopback(url), url)
    end
    for _, url in ipairs { "https://api.e2b.app", "http://127.0.0.1.evil.test", "http://localhostx",
        "http://[2001:db8::1]:80" } do
        t.eq(config.is_loopback(url), false, url)
    end
end)

t.test("builds the daemon's address", function()
    local c = { scheme = "https" }
    t.eq(config.envd_url(c, "iabc", "e2b.app"), "https://sandbox.e2b.app")
    t.eq(config.envd_url(c, "iabc", "my.test"), "https://49983-iabc.my.test")
    c = { scheme = "http", sandbox_url = "http://127.0.0.1:1" }
    t.eq(config.envd_url(c, "iabc", "e2b.app"), "http://127.0.0.1:1")
end)

-- ---- by the environment, in a process of its own -------------------------------------------

local function run(env, code)
    local program = require("e2b_fs").realpath("/proc/self/exe")
    local pipe = io.popen(("cd / && env -u E2B_API_KEY -u E2B_API_URL -u E2B_DOMAIN" ..
        " -u E2B_SANDBOX_URL -u E2BLUA_BACKEND %s %s -e '%s' 2>&1"):format(env, program, code))
    local text = pipe:read("a")
    pipe:close()
    return text
end

local SHOW = [[
package.preload["engine.client"] = function()
    return { ensure = function()
        return { api_url = "http://127.0.0.1:7280", sandbox_url = "http://127.0.0.1:7280",
            api_key = "e2b_local", domain = "e2b.localhost:7280" }
    end }
end
local c = require("e2b.config").resolve(OPTIONS)
print(c.backend, c.api_url, c.domain, c.scheme, c.why)]]

local function shown(env, options)
    return run(env, (SHOW:gsub("OPTIONS", options or "")))
end

t.test("without a server it is the embedded engine", function()
    t.match(shown(""), "^local\thttp://127%.0%.0%.1:7280\te2b%.localhost:7280\thttp\tno server")
end)

t.test("a key alone is the cloud", function()
    t.match(shown("E2B_API_KEY=e2b_1"),
        "^remote\thttps://api%.e2b%.app\te2b%.app\thttps\tE2B_API_KEY in the environment")
    t.match(shown("E2B_API_KEY=e2b_1 E2B_DOMAIN=my.test"),
        "^remote\thttps://api%.my%.test\tmy.test")
    t.match(shown("E2B_API_KEY=e2b_1 E2B_API_URL=http://10.0.0.1:3000"),
        "^remote\thttp://10%.0%.0%.1:3000\te2b%.app\thttp\t")
end)

t.test("an empty variable is none", function()
    t.match(shown("E2B_API_KEY= E2B_API_URL="), "^local")
end)

t.test("E2BLUA_BACKEND forces", function()
    t.match(shown("E2B_API_KEY=e2b_1 E2BLUA_BACKEND=local"), "^local.*E2BLUA_BACKEND=local")
    t.match(shown("E2BLUA_BACKEND=remote"), "no API key for the E2B API")
    t.match(shown("E2BLUA_BACKEND=remote E2B_API_KEY=e2b_1"), "^remote")
    t.match(shown("E2BLUA_BACKEND=far"), 'must be local or remote, not "far"')
end)

t.test("local allows an explicit server on this machine only", function()
    t.match(shown("E2BLUA_BACKEND=local", '{api_url = "http://127.0.0.1:9", api_key = "k"}'),
        "^remote\thttp://127%.0%.0%.1:9")
    t.match(shown("E2BLUA_BACKEND=local", '{api_key = "e2b_secret"}'),
        "allows this machine only")
end)

t.test("a server without a key is an error that says what to do", function()
    local text = shown("E2B_API_URL=http://127.0.0.1:9")
    t.match(text, "no API key")
    t.match(text, "E2B_API_KEY")
end)

t.test("has the program's version", function()
    local program = require("e2b_fs").realpath("/proc/self/exe")
    local pipe = io.popen(program .. " --version")
    t.eq(t.match(pipe:read("a"), "^e2blua (%S+)"), config.VERSION)
    pipe:close()
end)
