-- Tapes: conversations with a model as JSON Lines. The format is written down
-- in README.md beside this file. Knows nothing of HTTP.
local Error = require "e2b.error"
local fs = require "e2b_fs"
local json = require "e2b_json"
local text = require "agent.text"

local M = {}

local VERSION = 1
local MAX_BYTES = 64 * 1024 * 1024
local MARK = "{{workdir}}"

---@class agent.Tape
---@field name string
---@field head table
---@field conversations table[] each {user=, line=, [0]=exchange, [1]=exchange, ...}
local Tape = {}
Tape.__index = Tape

-- ---- reading -----------------------------------------------------------------

local function bad(where, message)
    Error.raise("invalid_argument", where .. ": " .. message, { op = "tape",
        remedy = "the format is described in stdlib/agent/README.md" })
end

local function check_block(where, block)
    if type(block) ~= "table" then
        bad(where, "a content block must be an object")
    elseif block.type == "text" or block.type == "thinking" then
        if type(block[block.type]) ~= "string" then
            bad(where, ("a block of type %s needs the text `%s`"):format(block.type, block.type))
        end
    elseif block.type ~= "tool_use" then
        bad(where, ("there is no block type '%s'; use text, thinking or tool_use"):format(
            tostring(block.type)))
    elseif type(block.name) ~= "string" or type(block.input) ~= "table"
        or json.is_array(block.input) then
        bad(where, "a tool_use needs `name`, a text, and `input`, an object")
    end
end

local function check_reply(where, reply)
    if type(reply) ~= "table" or type(reply.content) ~= "table" or #reply.content == 0 then
        bad(where, "an exchange needs `reply` with `content`, a list that is not empty")
    end
    local calls = false
    for _, block in ipairs(reply.content) do
        check_block(where, block)
        calls = calls or block.type == "tool_use"
    end
    reply.stop_reason = reply.stop_reason or (calls and "tool_use" or "end_turn")
    reply.usage = reply.usage or {}
end

local function check_exchange(where, x)
    if type(x) ~= "table" or math.type(x.turn) ~= "integer" or x.turn < 0 then
        bad(where, "an exchange needs `turn`, an integer of 0 or more")
    elseif (x.turn == 0) ~= (type(x.user) == "string") then
        bad(where, "`user`, the user's text, belongs to turn 0 and only there")
    elseif x.is_error ~= nil and not json.is_array(x.is_error) then
        bad(where, "`is_error` must be a list of true and false")
    end
    check_reply(where, x.reply)
end

local function same_text(a, b)
    return a:match("^%s*(.-)%s*$") == b:match("^%s*(.-)%s*$")
end

local function add_exchange(tape, where, line, x)
    check_exchange(where, x)
    if x.turn == 0 then
        for _, c in ipairs(tape.conversations) do
            if same_text(c.user, x.user) then
                bad(where, ("line %d begins a conversation with the same text"):format(c.line))
            end
        end
        tape.conversations[#tape.conversations + 1] = { user = x.user, line = line, turns = 0 }
    end
    local conversation = tape.conversations[#tape.conversations]
    local expected = conversation and conversation.turns or 0
    if x.turn ~= expected then
        bad(where, ("turn %d comes where turn %d belongs"):format(x.turn, expected))
    end
    conversation[x.turn] = x
    conversation.turns = x.turn + 1
end

---Reads a tape from its text.
---@param source string
---@param name string for errors
---@return agent.Tape
---Raises invalid_argument naming the line.
function M.parse(source, name)
    local tape = setmetatable({ name = name, conversations = {} }, Tape)
    local n = 0
    for line in (source .. "\n"):gmatch("([^\n]*)\n") do
        n = n + 1
        local where = ("%s:%d"):format(name, n)
        if line:find("%S") then
            local value, err = json.decode(line)
            if type(value) ~= "table" then
                bad(where, "not a JSON object" .. (err and ": " .. err.message or ""))
            elseif tape.head then
                add_exchange(tape, where, n, value)
            elseif value.tape == VERSION then
                tape.head = value
            else
                bad(where, ("a tape begins with {\"tape\":%d,...}; this one has %s"):format(
                    VERSION, value.tape and "version " .. tostring(value.tape) or "no version"))
            end
        end
    end
    if not tape.head then
        bad(name, "the tape is empty")
    end
    return tape
end

---Reads a tape from a file.
---@param path string
---@return agent.Tape
---Raises not_found and the like for the file, invalid_argument for its content.
function M.load(path)
    return M.parse(Error.check(fs.read_file(path, MAX_BYTES)), path)
end

-- ---- {{workdir}} -------------------------------------------------------------

local function map(value, f)
    if type(value) == "string" then
        return f(value)
    elseif type(value) ~= "table" then
        return value
    end
    local out = json.is_array(value) and json.array {} or {}
    for k, v in pairs(value) do
        out[k] = map(v, f)
    end
    return out
end

---Puts the working directory in.
---@param value any
---@param workdir string
---@return any copy
function M.fill(value, workdir)
    return map(value, function(s)
        return (text.replace(s, MARK, workdir))
    end)
end

---Takes the working directory out again, where it stands as a whole path.
---@param value any
---@param workdir string
---@return any copy
function M.blank(value, workdir)
    if workdir == "/" then
        return map(value, function(s)
            return s
        end)
    end
    return map(value, function(s)
        local out, at = {}, 1
        while true do
            local i, j = s:find(workdir, at, true)
            if not i then
                break
            end
            -- A full stop ends a sentence, not a name.
            local more = s:find("^[%w_-]", j + 1) or s:find("^%.[^%s]", j + 1)
            local whole = not more and not s:sub(1, i - 1):find("[%w_.-]$")
            out[#out + 1] = s:sub(at, i - 1) .. (whole and MARK or workdir)
            at = j + 1
        end
        return table.concat(out) .. s:sub(at)
    end)
end

-- ---- what a request asks -----------------------------------------------------

local function texts_of(message)
    if type(message.content) == "string" then
        return message.content, false
    end
    local parts, results = {}, false
    for _, block in ipairs(message.content) do
        if block.type == "text" then
            parts[#parts + 1] = block.text
        elseif block.type == "tool_result" then
            results = true
        end
    end
    return table.concat(parts, "\n"), results
end

local function blocks(message, kind)
    local out = {}
    if type(message.content) == "table" then
        for _, block in ipairs(message.content) do
            if block.type == kind then
                out[#out + 1] = block
            end
        end
    end
    return out
end

local function system_text(system)
    if type(system) == "table" then
        local parts = {}
        for _, block in ipairs(system) do
            parts[#parts + 1] = type(block) == "table" and block.text or ""
        end
        return table.concat(parts, "\n")
    end
    return type(system) == "string" and system or ""
end

---What a request of the Messages API asks for, as the tape sees it.
---@param request table valid
---@return table view user, turn, calls (tool calls of the last reply), results, offered, workdir
function M.view(request)
    local view = { turn = 0, calls = {}, results = {}, offered = {} }
    for _, message in ipairs(request.messages) do
        if message.role == "user" then
            local said, results = texts_of(message)
            if results then
                view.results = blocks(message, "tool_result")
            elseif said:find("%S") then
                view.user, view.turn, view.calls, view.results = said, 0, {}, {}
            end
        elseif message.role == "assistant" then
            view.turn = view.turn + 1
            view.calls, view.results = blocks(message, "tool_use"), {}
        end
    end
    for _, tool in ipairs(type(request.tools) == "table" and request.tools or {}) do
        view.offered[tool.name] = true
    end
    view.workdir = system_text(request.system):match("[Ww]orking directory: ([^\n]+)")
    return view
end

-- ---- matching ----------------------------------------------------------------

local function shown(value)
    local s = type(value) == "string" and value or json.encode(value)
    return '"' .. text.brief((s:gsub("\n", "\\n")), 60) .. '"'
end

-- Where two texts part, with what stands there.
local function difference(tape_text, request_text)
    local i = 1
    while i <= #tape_text and tape_text:byte(i) == request_text:byte(i) do
        i = i + 1
    end
    local from = math.max(i - 20, 1)
    return ("from byte %d on the tape has %s, the request %s"):format(i,
        shown(tape_text:sub(from)), shown(request_text:sub(from))), i
end

local function equal(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then
        return a == b
    end
    for k, v in pairs(a) do
        if not equal(v, b[k]) then
            return false
        end
    end
    for k in pairs(b) do
        if a[k] == nil then
            return false
        end
    end
    return true
end

local function input_difference(tape_input, input)
    for k, v in pairs(tape_input) do
        if not equal(v, input[k]) then
            if type(v) == "string" and type(input[k]) == "string" then
                return ("`%s` differs: %s"):format(k, (difference(v, input[k])))
            end
            return ("`%s` is %s in the tape and %s in the request"):format(k, shown(v),
                input[k] == nil and "missing" or shown(input[k]))
        end
    end
    for k in pairs(input) do
        if tape_input[k] == nil then
            return ("`%s` is not in the tape"):format(tostring(k))
        end
    end
end

local function find_conversation(tape, view)
    local nearest, furthest = nil, 0
    for _, conversation in ipairs(tape.conversations) do
        local user = M.fill(conversation.user, view.workdir or MARK)
        if same_text(user, view.user) then
            return conversation
        end
        local how, at = difference(user, view.user)
        if at > furthest then
            nearest, furthest = how, at
        end
    end
    return nil, ("step 1 (turn 0): no conversation of the tape begins with this text; %s"):format(
        nearest or "the tape has none")
end

-- The tool calls of the reply before must be those the tape gave.
local function check_calls(conversation, view, step)
    if view.turn == 0 then
        return true
    end
    local before = {}
    for _, block in ipairs(conversation[view.turn - 1].reply.content) do
        if block.type == "tool_use" then
            before[#before + 1] = block
        end
    end
    if #before ~= #view.calls then
        return nil, ("%s: the request has %d tool calls in the reply before, the tape %d"):format(
            step, #view.calls, #before)
    end
    for i, block in ipairs(before) do
        local call = view.calls[i]
        if call.name ~= block.name then
            return nil, ("%s: tool call %d of the reply before is %s, in the tape %s"):format(
                step, i, tostring(call.name), block.name)
        end
        local how = input_difference(M.fill(block.input, view.workdir or MARK), call.input)
        if how then
            return nil, ("%s: tool call %d (%s) of the reply before: %s"):format(step, i,
                block.name, how)
        end
    end
    return true
end

local function error_notices(exchange, view, step)
    local notices = {}
    for i, result in ipairs(view.results) do
        local expected = exchange.is_error and exchange.is_error[i] == true or false
        local got = result.is_error == true
        if got ~= expected then
            local call = view.calls[i]
            notices[#notices + 1] = ("%s: %s %s, which it did not when the tape was made")
                :format(step, call and call.name or "a tool call",
                    got and "failed" or "succeeded")
        end
    end
    return notices
end

---Finds the reply to a request. The tape keeps no state.
---@param request table valid request of the Messages API
---@return table|nil reply content, stop_reason, usage; the working directory filled in
---@return string[]|string notices about is_error; or at which step and how the request does not
---match
function Tape:match(request)
    local view = M.view(request)
    local step = ("step %d (turn %d)"):format(view.turn + 1, view.turn)
    if not view.user then
        return nil, "step 1 (turn 0): the request has no text of a user"
    end
    local conversation, how = find_conversation(self, view)
    if not conversation then
        return nil, how
    end
    local exchange = conversation[view.turn]
    if not exchange then
        return nil, ("%s: the tape ends after step %d"):format(step, conversation.turns)
    end
    local ok, wrong = check_calls(conversation, view, step)
    if not ok then
        return nil, wrong
    end
    local source = json.encode(exchange.reply)
    if not view.workdir and source:find(MARK, 1, true) then
        return nil, step .. ": the tape needs a working directory, the request's system prompt "
            .. "has no line \"Working directory: ...\""
    end
    for _, block in ipairs(exchange.reply.content) do
        if block.type == "tool_use" and not view.offered[block.name] then
            return nil, ("%s: the tape calls %s, which the request does not offer"):format(step,
                block.name)
        end
    end
    return M.fill(exchange.reply, view.workdir or MARK), error_notices(exchange, view, step)
end

return M
