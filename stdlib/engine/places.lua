-- The engine's folders: made, and looked at before an engine begins in them.
local Error = require "e2b.error"
local fs = require "e2b_fs"

local M = {}

local function make(folder, variable)
    local ok, err = fs.mkdirs(folder, 448)
    if not ok then
        Error.raise(err.kind, ("cannot make %s: %s"):format(folder, err.message), {
            errno = err.errno,
            remedy = ("set %s to a folder that this user can write"):format(variable),
        })
    end
end

---Makes home and cache; raises when one cannot hold what sandboxes need, with
---the variable that moves it.
---@param p engine.Paths
function M.check(p)
    local engine = require "e2b_engine"
    for _, place in ipairs { { p.home, "E2BLUA_HOME" }, { p.cache, "E2BLUA_CACHE" } } do
        local folder, variable = place[1], place[2]
        if p.cache == p.home .. "/cache" then
            variable = "E2BLUA_HOME"
        end
        make(folder, variable)
        Error.check(engine.hostfs_check(variable, folder))
    end
end

return M
