-- Creates with an Idempotency-Key: the same key and body give the same sandbox
-- while it lives. Source: control plane reference, section 5.2.
local hash = require "e2b_hash"
local http = require "engine.http"
local json = require "e2b_json"
local task = require "e2b_task"

local M = {}

local WAIT_SECONDS <const> = 55

local function check_key(key)
    if #key > 255 or not key:match("^[a-z0-9-]+$") then
        http.fail(400, "validation error: Idempotency-Key must be 1 to 255 of a-z, 0-9 and '-'")
    end
end

-- Keys of sandboxes that have ended are of no use.
local function prune(boxes)
    for key, entry in pairs(boxes.keys) do
        if entry.id and not boxes.live[entry.id] then
            boxes.keys[key] = nil
        end
    end
end

local function first(boxes, key, text, doc)
    local entry = { text = text, changed = task.cond() }
    boxes.keys[key] = entry
    local ok, answer = pcall(boxes.create, boxes, doc, true, { key = key, text = text })
    if ok then
        entry.id = answer.sandboxID
    else
        boxes.keys[key] = nil
    end
    entry.over = true
    entry.changed:broadcast()
    if not ok then
        error(answer, 0)
    end
    return answer
end

---A sandbox of an earlier engine keeps its key.
---@param boxes table
---@param record table
function M.adopted(boxes, record)
    local once = record.doc.once
    if once then
        boxes.keys[once.key] = { text = once.text, over = true, id = record.id }
    end
end

---POST /v2/sandboxes with that header, or without.
---@param boxes table
---@param key string|nil
---@param doc table the request
---@return table answer
function M.create(boxes, key, doc)
    if not key then
        return boxes:create(doc, true)
    end
    check_key(key)
    prune(boxes)
    local text, entry = hash.sha256(json.encode(doc)), boxes.keys[key]
    if not entry then
        return first(boxes, key, text, doc)
    elseif entry.text ~= text then
        http.fail(422, "the Idempotency-Key was used with another request",
            "idempotency_request_mismatch")
    end
    local deadline = task.now() + WAIT_SECONDS
    while not entry.over do
        if task.now() >= deadline then
            http.fail(409, "the first request with this Idempotency-Key is still under way",
                "idempotency_in_progress")
        end
        entry.changed:wait(deadline - task.now())
    end
    local record = entry.id and boxes.live[entry.id]
    if not record then
        http.fail(409, "the first request with this Idempotency-Key failed; use a new key",
            "idempotency_outcome_unknown")
    end
    return boxes:answer(record)
end

return M
