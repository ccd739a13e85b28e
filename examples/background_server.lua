-- A server in the background: started, waited for, asked from here, stopped.
local e2b = require "e2b"

local sbx <close> = e2b.Sandbox.create { allow_internet_access = false }
sbx.files:write("index.html", "<h1>Hello from the sandbox</h1>\n")

local server = sbx.commands:run("exec python3 -m http.server 8000",
    { background = true, timeout = 0 }) -- 0: without a limit
sbx.commands:run("until ss -Htln | grep -q :8000; do sleep 0.05; done")

local url = sbx:get_url(8000)
print(url)
print(e2b.http.get(url).body)

server:kill()
print(e2b.http.get(url).status == 502 and "nobody listens any more" or "still there")
