-- A unit test of a template: to_json says what would be built, without an engine.
local e2b = require "e2b"

local function template()
    return e2b.Template()
        :from_base_image()
        :set_workdir("/srv")
        :run_cmd("touch ready")
        :set_start_cmd("sleep infinity", e2b.wait_for_file("/srv/ready"))
end

local spec = e2b.json.decode(e2b.Template.to_json(template()))

assert(spec.fromImage == "e2bdev/base", "it begins with the base image")
assert(spec.startCmd == "sleep infinity", "it starts a process")
local steps = {}
for _, step in ipairs(spec.steps) do
    steps[#steps + 1] = step.type
end
assert(table.concat(steps, " ") == "WORKDIR RUN", "a folder, then a command")
assert(spec.steps[2].args[1] == "touch ready", "the command is the right one")
print("the template is as it should be")
