-- e2blua logs: what a sandbox's backend has noted about it.
local Error = require "e2b.error"
local api = require "e2b.api"
local box = require "cli.lib.box"
local config_of = require "e2b.config"
local out = require "cli.lib.out"
local task = require "e2b_task"
local timestamp = require "e2b.timestamp"
local transport = require "e2b.transport"

local M = {
    summary = "prints what a sandbox has noted",
    example = "e2blua logs i0abc1 --level warn -f",
}

local PAGE <const> = 1000
local PAUSE <const> = 0.4

function M.define(p)
    p:argument("id", "The sandbox."):argname("<id>")
    p:option("--level", "Only this level and worse ones."):argname("<level>"):default("info")
        :choices { "debug", "info", "warn", "error" }
    p:flag("-f --follow", "Go on until the sandbox ends or Ctrl-C.")
    p:flag("--json", "The entries as they are, a line each.")
end

local function fetch(config, id, level, cursor)
    local answer = api.call(config, {
        op = "logs",
        method = "GET",
        path = transport.path("/v2/sandboxes/%s/logs", id),
        query = {
            { "direction", "forward" }, { "level", level }, { "limit", PAGE },
            { "cursor", cursor and ("%d"):format(cursor) },
        },
        not_found = "sandbox_not_found",
        not_found_text = ("Sandbox %s not found"):format(id),
        ok = { [200] = true },
    })
    if type(answer) ~= "table" or type(answer.logs) ~= "table" then
        Error.raise("protocol", "logs: the answer has no entries", { op = "logs" })
    end
    return answer.logs
end

-- Milliseconds since 1970 of an RFC 3339 time, rounded down.
local function milliseconds(text)
    local seconds = timestamp.parse(text)
    local fraction = ((text:match("%.(%d+)") or "") .. "000"):sub(1, 3)
    return seconds and seconds * 1000 + math.tointeger(tonumber(fraction))
end

local function show(entry)
    local fields, names = {}, {}
    for name in pairs(type(entry.fields) == "table" and entry.fields or {}) do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        fields[i] = (" %s=%s"):format(name, tostring(entry.fields[name]))
    end
    out.write(io.stdout, ("%s %-5s %s%s\n"):format(entry.timestamp, entry.level,
        (tostring(entry.message):gsub("[%c]", " ")), table.concat(fields)))
end

-- The cursor counts milliseconds: those of the last one may come again.
local function key_of(entry)
    return ("%s %s %s"):format(entry.timestamp, entry.level, entry.message)
end

local function news(entries, seen)
    local fresh = {}
    for _, entry in ipairs(entries) do
        local key = key_of(entry)
        if not seen[key] then
            fresh[#fresh + 1] = entry
        end
    end
    return fresh
end

function M.run(args)
    local config = config_of.resolve()
    local cursor, seen = nil, {}
    while true do
        local ok, entries = pcall(box.known, fetch, config, args.id, args.level, cursor)
        if not ok then
            if cursor and Error.is(entries, "sandbox_not_found") then
                return 0 -- it has ended while we followed
            end
            error(entries, 0)
        end
        local fresh = news(entries, seen)
        for _, entry in ipairs(fresh) do
            if args.json then
                out.write(io.stdout, require("e2b_json").encode(entry) .. "\n")
            else
                show(entry)
            end
            local at = milliseconds(entry.timestamp)
            if at and at ~= cursor then
                cursor, seen = at, {}
            end
            seen[key_of(entry)] = true
        end
        cursor = cursor or 0
        if #fresh == 0 and not args.follow then
            return 0
        elseif #fresh == 0 then
            task.sleep(PAUSE)
        end
    end
end

return M
