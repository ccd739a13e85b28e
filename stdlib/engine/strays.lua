-- Sandboxes of this home that the state does not know: their groups, sockets and
-- folders are still there when the state was lost.
local Error = require "e2b.error"
local engine = require "e2b_engine"
local fs = require "e2b_fs"

local M = {}

---@class engine.Stray
---@field id string
---@field kind "sandbox"|"step"
---@field cgroup string
---@field pid integer|nil its pid 1, while it lives
---@field start_time integer|nil

---What is there beyond the known ids, each once.
---@param E table the engine
---@param known table<string, boolean>
---@return engine.Stray[]
function M.find(E, known)
    local found, seen = {}, {}
    local prefix = "e2blua/" .. E.home_hash
    local function add(id, cgroup, pid, start_time)
        if not id or known[id] or seen[id] or not id:find("^[ib]%w+$") then
            return
        end
        seen[id] = true
        pid = math.tointeger(tonumber(pid or 0))
        found[#found + 1] = {
            id = id,
            kind = id:sub(1, 1) == "b" and "step" or "sandbox",
            cgroup = cgroup or prefix .. "/" .. id,
            pid = pid ~= 0 and pid or nil,
            start_time = pid ~= 0 and math.tointeger(tonumber(start_time)) or nil,
        }
    end
    for line in Error.check(engine.strays(prefix)):gmatch("[^\n]+") do
        add(line:match("^(%S+) (%S+) (%d+) (%d+)$"))
    end
    for _, name in ipairs(fs.list(E.paths.run) or {}) do
        local id = name:match("^(%w+)%.sock$")
        if id and not known[id] and not seen[id] then -- where there are no groups
            add(id, nil, engine.stray_at(E.paths.run, name))
        end
    end
    for _, name in ipairs(fs.list(E.paths.boxes) or {}) do
        add(name)
    end
    return found
end

return M
