-- Edit: exact replacement of a piece of a file.
local text = require "agent.text"
local tools = require "agent.tools"

local M = { name = "Edit" }

M.description = "Replaces old_string by new_string in a file. old_string must be in the file "
    .. "exactly, white space included, and only once, unless replace_all is true. An empty "
    .. "old_string creates a file that does not exist yet."

M.parameters = {
    { name = "file_path", type = "string", required = true,
        description = "The absolute path of the file" },
    { name = "old_string", type = "string", required = true, description = "The text to replace" },
    { name = "new_string", type = "string", required = true, description = "The text instead" },
    { name = "replace_all", type = "boolean",
        description = "Replace every occurrence (default false)" },
}

local function create(context, path, input, exists)
    if exists then
        return tools.failure(("Cannot create new file - %s already exists."):format(path))
    end
    context.sandbox.files:write(path, input.new_string, { user = context.user })
    return { content = ("File created successfully at: %s"):format(path),
        data = { filePath = path, oldString = "", newString = input.new_string } }
end

---Replaces text in a file, as the model asked for it.
---@param context table of agent.tools' context
---@param input table what the tool's schema allows
---@return table answer {content, data?, is_error?}
function M.run(context, input)
    local path = context.path(input.file_path)
    local files = context.sandbox.files
    if input.old_string == input.new_string then
        return tools.failure("No changes to make: old_string and new_string are exactly the same.")
    end
    local exists = files:exists(path, { user = context.user })
    if input.old_string == "" then
        return create(context, path, input, exists)
    elseif not exists then
        return tools.failure(("File does not exist: %s"):format(path))
    end
    local old = files:read(path, { format = "bytes", user = context.user })
    local new, count = text.replace(old, input.old_string, input.new_string)
    if count == 0 then
        return tools.failure("String to replace not found in file.\nString: " .. input.old_string)
    elseif count > 1 and not input.replace_all then
        return tools.failure(("Found %d matches of the string to replace, but replace_all is "
            .. "false. To replace all occurrences, set replace_all to true. To replace only one "
            .. "occurrence, please provide more context to uniquely identify the instance.\n"
            .. "String: %s"):format(count, input.old_string))
    end
    files:write(path, new, { user = context.user })
    local message = count == 1 and "The file %s has been updated successfully."
        or "The file %s has been updated. All occurrences were successfully replaced."
    return { content = message:format(path), data = { filePath = path,
        oldString = input.old_string, newString = input.new_string, replaceAll = count > 1 } }
end

return M
