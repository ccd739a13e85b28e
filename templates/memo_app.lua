-- A place for a web application with a server of its own: a folder, and the
-- server.py in it, started as soon as it is there and again whenever it ends.
-- Downloads nothing.
local e2b = require "e2b"

local template = e2b.Template()
    :from_base_image()
    :set_workdir("/home/user/app")
    :set_start_cmd("while sleep 0.1; do [ ! -f server.py ] || python3 server.py; done",
        e2b.wait_for_process("sleep|python3"))

return template, { name = "memo_app" }
