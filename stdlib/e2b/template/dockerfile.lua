-- A template as a Dockerfile, as far as one can say it.
local Error = require "e2b.error"

local M = {}

local function line_of(step)
    local args = step.args
    if step.type == "RUN" then
        return "RUN " .. args[1]
    elseif step.type == "COPY" then
        return ("COPY %s %s"):format(args[1], args[2])
    elseif step.type == "ENV" then
        local parts = {}
        for i = 1, #args, 2 do
            parts[#parts + 1] = args[i] .. "=" .. args[i + 1]
        end
        return "ENV " .. table.concat(parts, " ")
    end
    return step.type .. " " .. table.concat(args, " ")
end

---@param spec table what Template keeps
---@return string
function M.of(spec)
    if spec.base_template then
        Error.raise("template", "Cannot convert template built from another template to" ..
            " Dockerfile. Templates based on other templates can only be built using the E2B API.")
    end
    local lines = { "FROM " .. spec.base_image }
    for _, step in ipairs(spec.steps) do
        lines[#lines + 1] = line_of(step)
    end
    if spec.start_cmd then
        lines[#lines + 1] = "ENTRYPOINT " .. spec.start_cmd
    end
    return table.concat(lines, "\n") .. "\n"
end

return M
