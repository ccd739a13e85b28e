-- The first script: a sandbox, a command, a file, and a web server with its page.
local e2b = require "e2b"

local sbx <close> = e2b.Sandbox.create() -- gone when the script ends
print(sbx.commands:run("uname -sr; id -un").stdout)

sbx.files:write("/home/user/hello.txt", "Hello from Lua\n")
print(sbx.files:read("/home/user/hello.txt"))

sbx.commands:run("python3 -m http.server 8000", { background = true })
local url = sbx:get_url(8000)
e2b.timeout(10, function() -- 502: nothing listens on the port yet
    while e2b.http.get(url).status == 502 do
        e2b.sleep(0.05)
    end
end)
print(url)
print(e2b.http.get(url .. "/hello.txt").body)
