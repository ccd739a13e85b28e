--- Where the sandboxes of the benches come from: the base image's root folder, for the peers, and
--- sandboxes without network.
local Error = require "e2b.error"
local Sandbox = require "e2b.sandbox"
local fs = require "e2b_fs"

local M = {}

--- A sandbox for a <close> variable.
---@param template? string default the base image
---@return e2b.Sandbox
function M.sandbox(template)
    return Sandbox.create(template, { timeout = 600, allow_internet_access = false })
end

--- The tree of the base image, which exists after this. Peers only read it.
---@return string path
function M.base()
    do
        local sandbox <close> = M.sandbox()
        sandbox.commands:run "true"
    end
    local cache = require("engine.paths").of().cache
    local id = Error.check(require("e2b_engine").image_ready(cache))
    return ("%s/layers/%s/fs"):format(cache, id)
end

--- A folder for what a bench writes on this machine; run.sh removes it.
---@return string path
function M.folder()
    return assert(fs.environ().BENCH_TMP, "BENCH_TMP is not set; run.sh sets it")
end

return M
