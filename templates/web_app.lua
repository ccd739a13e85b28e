-- A place for a web application: a folder, and Python's web server that shows
-- it on port 3000. Downloads nothing.
local e2b = require "e2b"

local template = e2b.Template()
    :from_base_image()
    :set_workdir("/home/user/app")
    :set_start_cmd("python3 -m http.server 3000", e2b.wait_for_port(3000))

return template, { name = "web_app" }
