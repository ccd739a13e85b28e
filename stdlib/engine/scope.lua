-- Starts an ordinary user's engine in a group that systemd gives away: from a
-- login it would be in one of root's, and its sandboxes without limits.
local fs = require "e2b_fs"
local process = require "e2b_process"

local M = {}

---@class engine.ScopeFacts
---@field uid integer
---@field v2 boolean whether cgroup v2 alone is mounted
---@field group string this process's, as "/user.slice/user-1000.slice/session-2.scope"
---@field manager boolean whether the user's systemd answers
---@field systemd_run? string path

---@return engine.ScopeFacts
function M.facts()
    local uid = process.uid()
    local env = fs.environ()
    local own = fs.read_file("/proc/self/cgroup", 65536) or ""
    local runtime = env.XDG_RUNTIME_DIR or ("/run/user/%d"):format(uid)
    local facts = {
        uid = uid,
        v2 = fs.stat "/sys/fs/cgroup/cgroup.controllers" ~= nil,
        group = ("\n" .. own):match "\n0::([^\n]*)" or "",
        manager = fs.stat(runtime .. "/systemd/private") ~= nil,
    }
    for dir in (env.PATH or ""):gmatch "[^:]+" do
        local stat = fs.stat(dir .. "/systemd-run")
        if stat and stat.type == "file" then
            facts.systemd_run = dir .. "/systemd-run"
            break
        end
    end
    return facts
end

---The words in front of the engine's; none where it is root's, has such a group
---already, or there is nobody who gives one.
---@param f engine.ScopeFacts
---@return string[]
function M.words(f)
    if f.uid == 0 or not f.v2 or not f.manager or not f.systemd_run
        or f.group:find(("/user@%d.service/"):format(f.uid), 1, true) then
        return {}
    end
    return { f.systemd_run, "--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes",
        "--" }
end

return M
