-- Write: a file with new content.
local Error = require "e2b.error"

local M = { name = "Write" }

M.description = "Writes a file, with all folders above it that are missing. "
    .. "An existing file is replaced. Prefer Edit for changes to an existing file."

M.parameters = {
    { name = "file_path", type = "string", required = true,
        description = "The absolute path of the file" },
    { name = "content", type = "string", required = true,
        description = "The whole content of the file" },
}

-- The text before the write, or nil.
local function before(context, path)
    local ok, old = pcall(context.sandbox.files.read, context.sandbox.files, path,
        { format = "bytes", user = context.user })
    if ok then
        return old
    elseif Error.is(old, "not_found") then
        return nil
    end
    error(old, 0)
end

---Writes a file, as the model asked for it.
---@param context table of agent.tools' context
---@param input table what the tool's schema allows
---@return table answer {content, data?, is_error?}
function M.run(context, input)
    local path = context.path(input.file_path)
    local old = before(context, path)
    context.sandbox.files:write(path, input.content, { user = context.user })
    local message = old and "The file %s has been updated successfully."
        or "File created successfully at: %s"
    return { content = message:format(path), data = { type = old and "update" or "create",
        filePath = path, content = input.content, originalFile = old } }
end

return M
