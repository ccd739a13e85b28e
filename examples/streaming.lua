-- Output while a command runs: by callback, and by a loop over a command in the background.
local e2b = require "e2b"

local sbx <close> = e2b.Sandbox.create { allow_internet_access = false }

sbx.commands:run("for i in 1 2 3; do echo line $i; sleep 0.1; done; echo oh >&2", {
    on_stdout = function(bytes) io.write("out: ", bytes) end,
    on_stderr = function(bytes) io.write("err: ", bytes) end,
})

local count = sbx.commands:run("seq 1000000", { background = true })
local size = 0
for stream, bytes in count:output() do
    if stream == "stdout" then
        size = size + #bytes
    end
end
print(("seq wrote %d bytes and exited with %d"):format(size, count:wait().exit_code))
