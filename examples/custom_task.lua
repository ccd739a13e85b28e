-- A task of your own, outside scripts/: a file that is called with the sandbox. What it prints, the
-- files it leaves and the exit code it returns come back to whoever runs it:
--
--     e2blua examples/custom_task.lua
local task = ...

if type(task) ~= "table" then -- started as a script: run this file as a task
    local result = require("e2b").agent.run_code_in_sandbox(arg[0], {
        timeout = 120,
        env_vars = { NAME = "Ada" },
    })
    for _, file in ipairs(result.added) do
        print(("the task left %s (%d bytes)"):format(file.path, file.size))
    end
    os.exit(result.exit_code)
end

-- Here the work begins. task.agent.query{prompt = ...} would let an agent do it.
local sbx = task.sandbox
sbx.files:write(task.workdir .. "/hello.py", "import os\nprint('Hello,', os.environ['NAME'])\n")
print(sbx.commands:run("python3 hello.py | tee greeting.txt",
    { cwd = task.workdir, envs = task.env }).stdout)
