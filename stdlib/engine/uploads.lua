-- COPY archives: links, uploads, files by hash. Source: control plane
-- reference, section 6.3; template reference, section 2.4.
local fs = require "e2b_fs"
local hash = require "e2b_hash"
local http = require "engine.http"
local wire = require "e2b_wire"

local M = {}

---Seconds that an upload link is good for.
M.LINK_SECONDS = 1800

local Uploads = {}
Uploads.__index = Uploads

---@param E table
function M.new(E)
    -- Links outlive an engine that dies.
    local secret = E.state:get("upload_secret")
    if not secret then
        secret = wire.random(32)
        E.state:set("upload_secret", secret)
    end
    return setmetatable({ E = E, secret = secret }, Uploads)
end

local function check_hash(text)
    if #text ~= 64 or text:find("[^0-9a-f]") then
        http.fail(400, "Invalid files hash")
    end
end

---Removes what uploads have left that an engine which died was taking.
function Uploads:clean_up()
    for _, name in ipairs(fs.list(self.E.paths.uploads) or {}) do
        if name:find("%.tmp$") then
            os.remove(self.E.paths.uploads .. "/" .. name)
        end
    end
end

function Uploads:token(name, expires)
    return hash.sha256(hash.sha256(self.secret .. name) .. self.secret .. expires)
end

---GET /templates/{id}/files/{hash}
---@param name string
---@param base string URL by which the client reached us
function Uploads:link(name, base)
    check_hash(name)
    local expires = tostring(os.time() + M.LINK_SECONDS)
    return {
        present = fs.stat(self.E.paths.uploads .. "/" .. name) ~= nil,
        url = ("%s/_upload/%s?expires=%s&token=%s"):format(base, name, expires,
            self:token(name, expires)),
    }
end

local function write_all(req, file)
    while true do
        local chunk, err = req:read()
        if err then
            return nil, err.message
        end
        if not chunk then
            return true
        end
        local ok, why = file:write(chunk)
        if not ok then
            return nil, why
        end
    end
end

---PUT /_upload/{hash}: into a file of its own, then renamed.
function Uploads:put(name, req)
    check_hash(name)
    local expires, token = req:query("expires") or "", req:query("token") or ""
    if not http.same_secret(token, self:token(name, expires)) then
        http.fail(403, "the upload link is not one of this engine; ask for a new one")
    elseif (tonumber(expires) or 0) < os.time() then
        http.fail(403, "the upload link has expired; ask for a new one")
    end
    local tmp = ("%s/%s.%s.tmp"):format(self.E.paths.uploads, name, wire.random(8))
    local file, why = io.open(tmp, "wb")
    if not file then
        http.fail(500, "cannot keep the upload: " .. why)
    end
    local ok, err = write_all(req, file)
    local closed, late = file:close()
    if ok and closed then
        ok, err = os.rename(tmp, self.E.paths.uploads .. "/" .. name)
    end
    if not (ok and closed) then
        os.remove(tmp)
        http.fail(500, "the upload failed: " .. tostring(err or late))
    end
end

return M
