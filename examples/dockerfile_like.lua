-- A template that reads like a Dockerfile, built and used. Each step is a cached layer: the second
-- run of this script builds nothing.
local e2b = require "e2b"

local template = e2b.Template()
    :from_base_image()                                      -- FROM e2bdev/base
    :set_envs { APP_ENV = "production" }                    -- ENV APP_ENV=production
    :set_workdir("/home/user/app")                          -- WORKDIR /home/user/app
    :run_cmd("echo 'print(\"started\")' > main.py")         -- RUN ...
    :run_cmd({ "python3 -m py_compile main.py", "ls" })     -- RUN ... && ...

print(e2b.Template.to_dockerfile(template))

local info = e2b.Template.build(template, "dockerfile_like")
local sbx <close> = e2b.Sandbox.create(info.template_id, { allow_internet_access = false })
io.write(sbx.commands:run("python3 main.py; pwd; ls").stdout)
