-- Building a template: registering, uploading, starting, following. Talks to
-- the control plane only. Source: e2b-dev/E2B python-sdk 2.63, template_sync.
local json = require "e2b_json"
local task = require "e2b_task"
local Error = require "e2b.error"
local api = require "e2b.api"
local config_of = require "e2b.config"
local fileset = require "e2b.template.fileset"
local logger = require "e2b.template.logger"
local options = require "e2b.options"
local position = require "e2b.template.position"
local timestamp = require "e2b.timestamp"
local transport = require "e2b.transport"

local M = {}

local UPLOAD_TIMEOUT <const> = 3600
local CHUNK <const> = 256 << 10
local POLL_REMOTE <const> = 0.2
local POLL_LOCAL <const> = 0.005 -- the first; an unchanged build is felt as instant
local TAIL_LINES <const> = 10 -- of each stream
local PAGE <const> = 100 -- entries of a full answer: there may be more

local BUILD_OPTIONS = options.spec(options.API, {
    name = "text",
    alias = "text",
    tags = "table|text",
    cpu_count = "count",
    memory_mb = "count",
    min_free_disk_mb = "integer",
    skip_cache = "boolean",
    on_build_logs = "callable",
})

---@class e2b.BuildInfo
---@field template_id string
---@field build_id string
---@field name string
---@field alias string the same (of older SDKs)
---@field tags string[]

local function tag_list(op, tags)
    if type(tags) == "string" then
        return { tags }
    end
    for i, tag in ipairs(tags or {}) do
        options.value(op, ("tags[%d]"):format(i), tag, "text")
    end
    return tags or {}
end

local function build_options(op, name, opts)
    if type(name) == "table" and opts == nil then
        name, opts = nil, name
    end
    local o = options.check(op, opts, BUILD_OPTIONS)
    if name ~= nil then
        options.value(op, "name", name, "text")
    end
    o.name = name or o.name or o.alias
    if not o.name or o.name == "" then
        Error.raise("template", "Name must be provided",
            { op = op, remedy = "for example Template.build(template, { name = \"my_app\" })" })
    end
    o.tags = tag_list(op, o.tags)
    return o
end

-- ---- one build ---------------------------------------------------------------

---@class e2b.template.Build
---@field op string
---@field template e2b.Template
---@field options table
---@field config e2b.Config
---@field info e2b.BuildInfo

local function tell(b, message, level, mark)
    if b.options.on_build_logs then
        b.options.on_build_logs(logger.entry(message, level, mark))
    end
end

local function bad_answer(b, what)
    Error.raise("protocol", ("%s: the answer has no %s"):format(b.op, what), { op = b.op })
end

local function register(b)
    local o = b.options
    tell(b, "Requesting build for template: " .. o.name ..
        (#o.tags > 0 and " with tags: " .. table.concat(o.tags, ", ") or ""))
    local answer = api.call(b.config, {
        op = b.op,
        method = "POST",
        path = "/v3/templates",
        body = {
            name = o.name,
            tags = #o.tags > 0 and json.array(o.tags) or nil,
            cpuCount = o.cpu_count,
            memoryMB = o.memory_mb,
            minFreeDiskMb = o.min_free_disk_mb,
        },
        kind = "build",
        ok = { [202] = true, [200] = true, [201] = true },
    })
    if type(answer) ~= "table" or type(answer.templateID) ~= "string" or
        type(answer.buildID) ~= "string" then
        bad_answer(b, "template and build id")
    end
    b.info = {
        template_id = answer.templateID,
        build_id = answer.buildID,
        name = o.name,
        alias = o.name,
        tags = type(answer.tags) == "table" and answer.tags or {},
    }
    tell(b, ("Template created with ID: %s, Build ID: %s"):format(b.info.template_id,
        b.info.build_id))
end

-- ---- uploads -----------------------------------------------------------------

local function upload_failed(b, src, text, cause)
    -- The URL is a secret: whoever knows it can write there.
    Error.raise("file_upload", ("Failed to upload file: '%s': %s"):format(src, text),
        { op = b.op, cause = cause })
end

local function upload_headers(link)
    local headers = { ["Content-Type"] = "application/octet-stream" }
    for name, value in pairs(type(link.headers) == "table" and link.headers or {}) do
        if type(value) == "string" and name:lower() ~= "content-length" then
            headers[name] = value
        end
    end
    return headers
end

-- Sends the file; an answer that comes before the end stops it.
local function send(x, file)
    while true do
        local chunk = file:read(CHUNK)
        if not chunk then
            x:finish()
            return true
        end
        local ok, err = x:write(chunk)
        if not ok then
            return nil, err
        end
    end
end

local function put(b, step, link, archive)
    local limit = b.options.request_timeout or UPLOAD_TIMEOUT
    local src = step.copy.src
    local file <close>, why = io.open(archive.path, "rb")
    if not file then
        upload_failed(b, src, why)
    end
    local local_peer = b.config.proxy == nil and config_of.is_loopback(link.url)
    local x <close>, err = require("e2b_httpc").open {
        method = "PUT",
        url = link.url,
        headers = upload_headers(link),
        upload = true,
        length = archive.size,
        idle_timeout = limit > 0 and limit or nil,
        proxy = local_peer and "" or b.config.proxy,
    }
    if not x then
        upload_failed(b, src, err.message, err)
    end
    local sent, broken = send(x, file)
    local status, headers = x:wait()
    if not status then
        local cause = sent and headers or broken
        upload_failed(b, src, cause.message, cause)
    elseif status < 200 or status > 299 then
        local body = transport.body(x, { op = b.op }) or ""
        upload_failed(b, src, ("%d: %s"):format(status, (transport.message(body, {}))))
    end
end

local function upload(b, step, set)
    local copy = step.copy
    local link = api.call(b.config, {
        op = b.op,
        method = "GET",
        path = transport.path("/templates/%s/files/%s", b.info.template_id, set.hash),
        kind = "file_upload",
        ok = { [201] = true, [200] = true },
    })
    if type(link) ~= "table" or type(link.present) ~= "boolean" then
        bad_answer(b, "link for an upload")
    end
    if type(link.url) == "string" and (copy.force_upload or not link.present) then
        local archive <close> = fileset.pack(set, copy.gzip)
        put(b, step, link, archive)
        tell(b, ("Uploaded '%s'"):format(copy.src))
    else
        tell(b, ("Skipping upload of '%s', already cached"):format(copy.src))
    end
end

local function upload_all(b, sets)
    local any = false
    for i, step in ipairs(b.template.steps) do
        if sets[i] then
            any = true
            local ok, err = pcall(upload, b, step, sets[i])
            if not ok then
                if Error.is(err) then
                    err.where = position.resolve(b.template.calls, step.call) or err.where
                end
                error(err, 0)
            end
        end
    end
    if any then
        tell(b, "All file uploads completed")
    end
end

-- ---- following ---------------------------------------------------------------

---@class e2b.BuildStatus
---@field build_id string
---@field template_id string
---@field status "waiting"|"building"|"ready"|"error"
---@field log_entries e2b.LogEntry[]
---@field logs string[]
---@field reason? {message: string, step: string|nil, log_entries: e2b.LogEntry[]}

local function entries_of(list)
    local entries = {}
    for i, doc in ipairs(type(list) == "table" and list or {}) do
        entries[i] = logger.of_server(doc)
    end
    return entries
end

local function fetch_status(op, config, info, offset)
    local doc = api.call(config, {
        op = op,
        method = "GET",
        path = transport.path("/templates/%s/builds/%s/status", info.template_id, info.build_id),
        query = { { "logsOffset", offset } },
        kind = "build",
        ok = { [200] = true },
    })
    if type(doc) ~= "table" or type(doc.status) ~= "string" then
        bad_answer({ op = op }, "status")
    end
    local reason = type(doc.reason) == "table" and doc.reason or nil
    return {
        build_id = info.build_id,
        template_id = info.template_id,
        status = doc.status,
        log_entries = entries_of(doc.logEntries),
        logs = type(doc.logs) == "table" and doc.logs or {},
        reason = reason and {
            message = type(reason.message) == "string" and reason.message or "Build failed",
            step = type(reason.step) == "string" and reason.step or nil,
            log_entries = entries_of(reason.logEntries),
        },
    }
end

-- Keeps the last lines of output of each step, of either stream: much of one
-- must not hide the few of the other, which may have come a little earlier.
local function remember(tails, entry)
    local stream, line
    if entry.step then
        stream, line = entry.message:match("%[(std%a+)%]: (.*)$")
    end
    if not line then
        return
    end
    local tail = tails[entry.step] or { stdout = 0, stderr = 0 }
    tails[entry.step] = tail
    tail[#tail + 1] = { stream = stream, line = line }
    tail[stream] = tail[stream] + 1
    if tail[stream] > TAIL_LINES then
        for i, old in ipairs(tail) do
            if old.stream == stream then
                table.remove(tail, i)
                break
            end
        end
        tail[stream] = tail[stream] - 1
    end
end

local function text_of(tail)
    local lines = {}
    for i, entry in ipairs(tail) do
        lines[i] = entry.line
    end
    return table.concat(lines, "\n")
end

-- What failed in words, and the number of the call it stands for.
local function place_of(template, step)
    if step == "base" then
        return "FROM " .. (template.base_template or template.base_image),
            template.from_call or 1
    elseif step == "finalize" then
        return "the start or ready command", template.end_call or #template.calls
    end
    local number = step and math.tointeger(tonumber(step))
    local instruction = number and template.steps[number]
    if not instruction then
        return nil
    end
    local text = table.concat(instruction.args, " "):gsub("%s+", " "):gsub(" $", "")
    if #text > 100 then
        text = text:sub(1, utf8.offset(text, 0, 98) - 1) .. "..."
    end
    return ("step %d (%s %s)"):format(number, instruction.type, text), instruction.call
end

local function raise_failure(b, status, tails)
    local reason = status.reason or { message = "Build failed" }
    local what, call = place_of(b.template, reason.step)
    local calls = b.template.calls
    local code = reason.message:match("exit status (%d+)")
    local output = tails[reason.step] and text_of(tails[reason.step])
    local lines = { what and what .. " failed: " .. reason.message or reason.message }
    if output then
        lines[#lines + 1] = "    " .. output:gsub("\n", "\n    ")
    end
    Error.raise("build", table.concat(lines, "\n"), {
        op = b.op,
        where = call and calls[call] and position.resolve(calls, call) or nil,
        step = reason.step,
        exit_code = math.tointeger(tonumber(code)),
        output = output,
        template_id = b.info.template_id,
        build_id = b.info.build_id,
    })
end

-- An engine at home that has died is replaced by one that knows what became of
-- its builds.
local function status_of(b, offset)
    local ok, status = pcall(fetch_status, b.op, b.config, b.info, offset)
    if ok then
        return status
    elseif b.config.backend == "local" and Error.is(status, "network") then
        b.config = config_of.resolve(b.options)
        return fetch_status(b.op, b.config, b.info, offset)
    end
    error(status, 0)
end

-- Follows the build to its end, and its log to the last line.
local function follow(b)
    local pause = b.config.backend == "local" and POLL_LOCAL or POLL_REMOTE
    local offset, tails = 0, {}
    while true do
        local status = status_of(b, offset)
        offset = offset + #status.log_entries
        for _, entry in ipairs(status.log_entries) do
            remember(tails, entry)
            if b.options.on_build_logs then
                b.options.on_build_logs(entry)
            end
        end
        local ended = status.status ~= "building" and status.status ~= "waiting"
        if ended and #status.log_entries == 0 then
            if status.status == "ready" then
                return
            end
            raise_failure(b, status, tails)
        end
        if not ended and #status.log_entries < PAGE then
            task.sleep(pause)
            pause = math.min(POLL_REMOTE, pause * 1.5)
        end
    end
end

-- ---- the calls ---------------------------------------------------------------

local function begin(b, request_of)
    b.config = config_of.resolve(b.options)
    register(b)
    local request, sets = request_of(b.template)
    request.force = request.force or b.options.skip_cache == true
    upload_all(b, sets)
    tell(b, "Starting building...")
    api.call(b.config, {
        op = b.op,
        method = "POST",
        path = transport.path("/v2/templates/%s/builds/%s", b.info.template_id, b.info.build_id),
        body = request,
        kind = "build",
        ok = { [202] = true, [200] = true, [201] = true, [204] = true },
    })
end

-- Runs fn between the two marks.
local function marked(b, fn, ...)
    tell(b, "Build started", "debug", "start")
    local ok, err = pcall(fn, ...)
    tell(b, "Build finished", "debug", "end")
    if not ok then
        if Error.is(err) then
            Error.raise(err)
        end
        error(err, 0)
    end
    return b.info
end

---Builds and waits.
---@param op string
---@param template e2b.Template
---@param request_of fun(template: e2b.Template): table, table
---@param name string|table|nil
---@param opts table|nil
---@return e2b.BuildInfo
function M.run(op, template, request_of, name, opts)
    local b = { op = op, template = template, options = build_options(op, name, opts) }
    return marked(b, function()
        begin(b, request_of)
        tell(b, "Waiting for logs...")
        follow(b)
    end)
end

---Builds and does not wait.
---@param op string
---@param template e2b.Template
---@param request_of fun(template: e2b.Template): table, table
---@param name string|table|nil
---@param opts table|nil
---@return e2b.BuildInfo
function M.start(op, template, request_of, name, opts)
    local b = { op = op, template = template, options = build_options(op, name, opts) }
    return marked(b, begin, b, request_of)
end

---@param build_info e2b.BuildInfo
---@param opts table|nil
---@return e2b.BuildStatus
function M.status(build_info, opts)
    local op = "Template.get_build_status"
    if type(build_info) ~= "table" or type(build_info.template_id) ~= "string" or
        type(build_info.build_id) ~= "string" then
        Error.raise("invalid_argument", op .. ": build_info must be what build_in_background" ..
            " returned (a table with template_id and build_id)", { op = op })
    end
    local o = options.check(op, opts, options.spec(options.API, { logs_offset = "integer" }))
    return fetch_status(op, config_of.resolve(o), build_info, o.logs_offset or 0)
end

---@param name string
---@param opts table|nil
---@return boolean
function M.exists(name, opts)
    local op = "Template.exists"
    options.value(op, "name", name, "text")
    local config = config_of.resolve(options.check(op, opts, options.API))
    local _, _, status = api.call(config, {
        op = op,
        method = "GET",
        path = transport.path("/templates/aliases/%s", name),
        kind = "template",
        ok = { [200] = true, [403] = true, [404] = true },
    })
    return status ~= 404
end

local function tags_call(op, method, opts, body, ok)
    local config = config_of.resolve(options.check(op, opts, options.API))
    return api.call(config, {
        op = op,
        method = method,
        path = "/templates/tags",
        body = body,
        kind = "template",
        ok = ok,
    })
end

---@param target_name string
---@param tags string|string[]
---@param opts table|nil
---@return {build_id: string, tags: string[]}
function M.assign_tags(target_name, tags, opts)
    local op = "Template.assign_tags"
    options.value(op, "target_name", target_name, "text")
    options.value(op, "tags", tags, "text|table")
    local answer = tags_call(op, "POST", opts,
        { target = target_name, tags = json.array(tag_list(op, tags)) },
        { [201] = true, [200] = true })
    if type(answer) ~= "table" then
        bad_answer({ op = op }, "tags")
    end
    return { build_id = answer.buildID, tags = answer.tags }
end

---@param name string
---@param tags string|string[]
---@param opts table|nil
function M.remove_tags(name, tags, opts)
    local op = "Template.remove_tags"
    options.value(op, "name", name, "text")
    options.value(op, "tags", tags, "text|table")
    tags_call(op, "DELETE", opts, { name = name, tags = json.array(tag_list(op, tags)) },
        { [204] = true, [200] = true })
end

---@param name string
---@param opts table|nil
---@return {tag: string, build_id: string, created_at: integer}[]
function M.get_tags(name, opts)
    local op = "Template.get_tags"
    options.value(op, "name", name, "text")
    local config = config_of.resolve(options.check(op, opts, options.API))
    local list = api.call(config, {
        op = op,
        method = "GET",
        path = transport.path("/templates/%s/tags", name),
        kind = "template",
        ok = { [200] = true },
    })
    local tags = {}
    for i, doc in ipairs(type(list) == "table" and list or {}) do
        tags[i] = {
            tag = doc.tag,
            build_id = doc.buildID,
            created_at = timestamp.parse(doc.createdAt),
        }
    end
    return tags
end

return M
