-- The same script against a remote service: the engine behind TLS with a
-- certificate of a test CA, reached by environment variables alone.
local client = require "engine.client"
local fs = require "e2b_fs"
local paths = require "engine.paths"
local t = require "tests"
local task = require "e2b_task"
local world = require "template_world"

local SCRIPT <const> = [[
local e2b = require "e2b"
local sbx <close> = e2b.Sandbox.create()
local seen = {}
sbx.commands:run("seq 3", { on_stdout = function(text) seen[#seen + 1] = text end })
sbx.files:write("/home/user/a", ("x"):rep(3000000))
print(table.concat(seen) .. #sbx.files:read("/home/user/a"))
local config = require("e2b.config").resolve()
local mine = 0
for _, info in ipairs(e2b.Sandbox.list():next_items()) do
    mine = mine + (info.sandbox_id == sbx.sandbox_id and 1 or 0)
end
print(config.backend, config.api_url:match("^https:") or "plain", mine)
]]

local function sh(command, ...)
    local ok = os.execute(command:format(...))
    t.ok(ok, command)
end

local function make_certificates(dir)
    sh("cd %s && exec >log 2>&1 && " ..
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 " ..
        "-subj '/CN=test CA' -keyout ca.key -out ca.pem && " ..
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost " ..
        "-keyout key.pem -out csr.pem && " ..
        "printf 'subjectAltName=DNS:localhost' >ext && " ..
        "openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 " ..
        "-extfile ext -out cert.pem", dir)
end

-- The template has a file of 3 MB to upload; what the proxy in front would add
-- is sent by the client.
local BUILD <const> = [[
local e2b = require "e2b"
local tpl = e2b.Template({ file_context_path = %q }):from_base_image()
    :copy("big", "/home/user/big"):run_cmd("wc -c < /home/user/big")
local log = {}
local info = e2b.Template.build(tpl, %q, { headers = { ["X-Forwarded-Proto"] = "https" },
    on_build_logs = function(entry) log[#log + 1] = entry.message end })
local sbx <close> = e2b.Sandbox.create(info.template_id)
print(sbx.commands:run("wc -c < big").stdout)
]]

-- A TLS port in front of the engine; closing the pipe ends it.
local function front(dir, port)
    local pipe = io.popen(("exec python3 tests/lib/tls_proxy.py %s/cert.pem %s/key.pem %d %s/port")
        :format(dir, dir, port, dir), "w")
    for _ = 1, 200 do
        local text = fs.read_file(dir .. "/port")
        if text then
            return pipe, tonumber(text)
        end
        task.sleep(0.05)
    end
    error("the TLS front did not start")
end

local function run(dir, port, env, script)
    fs.write_file(dir .. "/s.lua", script or SCRIPT)
    local url = ("https://localhost:%d"):format(port)
    local pipe = io.popen(("env -u E2BLUA_BACKEND E2B_API_URL=%s E2B_SANDBOX_URL=%s %s %s" ..
        " %s/s.lua 2>&1"):format(url, url, env, fs.realpath("/proc/self/exe"), dir))
    local text = pipe:read("a")
    pipe:close()
    return text
end

client.ensure() -- its connections stay with the client

t.test("a script meets a remote service over TLS by environment", { timeout = 120 }, function()
    local info = client.info(paths.of())
    local dir = t.tmpdir()
    make_certificates(dir)
    local pipe, port = front(dir, info.port)
    local key = "E2B_API_KEY=" .. info.api_key
    t.eq(run(dir, port, key .. " SSL_CERT_FILE=" .. dir .. "/ca.pem"),
        "1\n2\n3\n3000000\nremote\thttps:\t1\n")
    t.match(run(dir, port, key .. " SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"),
        "certificate")
    t.match(run(dir, port, "E2B_API_KEY=e2b_00 SSL_CERT_FILE=" .. dir .. "/ca.pem"),
        "401: Unauthorized")
    local refused = run(dir, port, key .. " SSL_CERT_FILE=" .. dir .. "/ca.pem",
        'require("e2b").Sandbox.list({ proxy = "http://127.0.0.1:9" }):next_items()')
    t.match(refused, "s%.lua:1: .*127%.0%.0%.1.*")
    t.ok(not refused:find(info.api_key, 1, true), "the key is in an error")
    assert(fs.write_file(dir .. "/big", ("0123456789"):rep(300000)))
    t.eq(run(dir, port, key .. " SSL_CERT_FILE=" .. dir .. "/ca.pem",
        BUILD:format(dir, world.unique("remote"))), "3000000\n\n")
    pipe:close()
end)
