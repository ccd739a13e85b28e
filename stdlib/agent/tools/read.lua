-- Read: a text file with line numbers, or a picture.
local text = require "agent.text"
local tools = require "agent.tools"
local wire = require "e2b_wire"

local M = { name = "Read" }

local MAX_LINES = 2000
local MAX_LINE = 2000
local MAX_BYTES = 256 * 1024
local MAX_PICTURE = 5 * 1024 * 1024
local PICTURES = { png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg",
    gif = "image/gif", webp = "image/webp" }

M.description = "Reads a file. Text comes with line numbers, at most " .. MAX_LINES
    .. " lines at a time; use offset and limit for more. Pictures (png, jpg, gif, webp) are shown."

M.parameters = {
    { name = "file_path", type = "string", required = true,
        description = "The absolute path of the file" },
    { name = "offset", type = "integer", description = "The first line, counted from 1" },
    { name = "limit", type = "integer", description = "How many lines" },
}

local function info(context, path)
    local files = context.sandbox.files
    if not files:exists(path, { user = context.user }) then
        return nil
    end
    return files:get_info(path, { user = context.user })
end

local function picture(context, path, kind, size)
    if size > MAX_PICTURE then
        return tools.failure(("The picture %s has %s; at most %s can be shown."):format(path,
            text.size(size), text.size(MAX_PICTURE)))
    end
    local bytes = context.sandbox.files:read(path, { format = "bytes", user = context.user })
    return { content = { { type = "image", source = { type = "base64", media_type = kind,
        data = wire.base64(bytes) } } }, data = { type = "image", filePath = path } }
end

local function cut_line(line)
    if #line <= MAX_LINE then
        return line
    end
    return ("%s... [%d bytes of the line left out]"):format(line:sub(1, MAX_LINE),
        #line - MAX_LINE)
end

local function numbered(source, first, count)
    local out, n = {}, 0
    for line in (source:gsub("\n$", "") .. "\n"):gmatch("(.-)\r?\n") do
        n = n + 1
        if n >= first and n < first + count then
            out[#out + 1] = ("%6d\t%s"):format(n, cut_line(line))
        end
    end
    return out, n
end

---Reads a file, as the model asked for it.
---@param context table of agent.tools' context
---@param input table what the tool's schema allows
---@return table answer {content, data?, is_error?}
function M.run(context, input)
    local path = context.path(input.file_path)
    local found = info(context, path)
    if not found then
        return tools.failure(("File does not exist: %s"):format(path))
    elseif found.type == "dir" then
        return tools.failure(("%s is a folder. Use Bash with ls, or Glob."):format(path))
    end
    local kind = PICTURES[(path:match("%.(%w+)$") or ""):lower()]
    if kind then
        return picture(context, path, kind, found.size)
    end
    if found.size > MAX_BYTES and not input.limit then
        return tools.failure(("File content (%s) exceeds maximum allowed size (%s). Use offset "
            .. "and limit to read parts of it, or Grep to search in it."):format(
            text.size(found.size), text.size(MAX_BYTES)))
    end
    local source = context.sandbox.files:read(path, { format = "bytes", user = context.user })
    if source == "" then
        return { content = "<system-reminder>Warning: the file exists but the contents are "
            .. "empty.</system-reminder>" }
    elseif source:sub(1, 8192):find("\0", 1, true) then
        return tools.failure(("%s is a binary file. Use Bash to look into it."):format(path))
    end
    local first = math.max(input.offset or 1, 1)
    local lines, total = numbered(source, first, math.min(input.limit or MAX_LINES, MAX_LINES))
    if #lines == 0 then
        return { content = ("<system-reminder>Warning: the file exists but is shorter than the "
            .. "provided offset (%d). The file has %d lines.</system-reminder>"):format(first,
            total) }
    end
    if first + #lines - 1 < total then
        lines[#lines + 1] = ("... [lines %d to %d of %d shown]"):format(first,
            first + #lines - 1, total)
    end
    return { content = text.shorten(table.concat(lines, "\n"), MAX_BYTES),
        data = { type = "text", filePath = path, totalLines = total } }
end

return M
