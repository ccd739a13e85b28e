-- Makes a tape of what agents have said and done in a run.
local Error = require "e2b.error"
local fs = require "e2b_fs"
local json = require "e2b_json"
local tape = require "agent.tape"

local M = {}

-- The blocks a tape keeps: no ids, they are made fresh at replay.
local function blocks(content)
    local out = json.array {}
    for _, b in ipairs(content) do
        if b.type == "text" then
            out[#out + 1] = { type = "text", text = b.text }
        elseif b.type == "thinking" then
            out[#out + 1] = { type = "thinking", thinking = b.thinking, signature = b.signature }
        elseif b.type == "tool_use" then
            out[#out + 1] = { type = "tool_use", name = b.name, input = b.input }
        end
    end
    return out
end

local function errors_of(content)
    local out = json.array {}
    for _, b in ipairs(content) do
        if b.type == "tool_result" then
            out[#out + 1] = b.is_error == true
        end
    end
    return out
end

local function add_conversation(out, transcript)
    local turn, user, errors = 0, nil, nil
    for _, message in ipairs(transcript.messages) do
        if message.role == "user" and type(message.content) == "string" then
            turn, user, errors = 0, message.content, nil
        elseif message.role == "user" then
            errors = errors_of(message.content)
        else
            out[#out + 1] = json.encode(tape.blank({ turn = turn, user = turn == 0 and user or nil,
                is_error = turn > 0 and errors or nil,
                reply = { content = blocks(message.content) } }, transcript.workdir or "/"))
            turn = turn + 1
        end
    end
end

---The text of a tape.
---@param name string
---@param transcripts table[] each {messages, workdir} of agent.Loop:transcript
---@return string
function M.text(name, transcripts)
    local out = { json.encode { tape = 1, name = name } }
    for _, transcript in ipairs(transcripts) do
        add_conversation(out, transcript)
    end
    return table.concat(out, "\n") .. "\n"
end

---Writes a tape.
---@param path string
---@param name string
---@param transcripts table[]
function M.save(path, name, transcripts)
    Error.check(fs.write_file(path, M.text(name, transcripts)))
end

return M
