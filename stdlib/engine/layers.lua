-- The layers of the cache as builds and sandboxes see them: chains, damage, the
-- leases of builds, and what of them this home's templates need.
local Error = require "e2b.error"
local engine = require "e2b_engine"
local json = require "e2b_json"
local log = require "engine.log"
local task = require "e2b_task"

local M = {}

local EUCLEAN <const> = 117

---What is known of a layer; one that is damaged is set aside. Raises when it
---cannot be read for another reason.
---@param cache string
---@param id string
---@return table|nil meta nil: there is none
---@return string|nil why it was damaged
function M.meta(cache, id)
    local text, err = engine.layer_meta(cache, id)
    local sound = text and not err
    if text and err then -- unsure: made just before the machine stopped
        sound, err = engine.layer_verify(cache, id)
    end
    if sound then
        return json.decode(text)
    elseif not err then
        return nil
    elseif err.errno ~= EUCLEAN then -- it could not be read, which is not its fault
        error(err, 0)
    end
    local name, failure = engine.layer_aside(cache, id)
    log.warn("%s; %s", err.message, name and ("set aside as %s/%s"):format(cache, name)
        or failure.message)
    return nil, err.message
end

---Whether a layer was built on this content of its parent. Layers of earlier
---versions do not say.
---@param meta table
---@param content string|nil
---@return boolean
function M.fits(meta, content)
    return not meta.parent_content or not content or meta.parent_content == content
end

local function missing(cache, id)
    if engine.layer_was_damaged(cache, id) then
        return ("layer %s was damaged and set aside"):format(id:sub(1, 12))
    end
    return ("layer %s is not in %s"):format(id:sub(1, 12), cache)
end

---Layers of a chain, base first, and the digest of the top; nil and why when one
---cannot be used.
---@param cache string
---@param top string
---@return string[]|nil layers
---@return string|nil content or why not
---@return string|nil lost the layer that is missing
function M.chain(cache, top)
    local layers, id, child, content = {}, top, nil, nil
    while id do
        local meta, damage = M.meta(cache, id)
        if not meta then
            return nil, damage or missing(cache, id), id
        elseif child and not M.fits(child, meta.content) then
            return nil, ("layer %s was made anew with another content"):format(id:sub(1, 12))
        end
        content = child and content or meta.content
        table.insert(layers, 1, id)
        child, id = meta, meta.parent
    end
    return layers, content
end

-- Without a wait, so that two that write cannot overtake one another.
local function replace_file(dir, name, text)
    local new = dir .. "/." .. name
    local f, err = io.open(new, "w")
    if not f then
        return nil, err
    end
    local ok, why = f:write(text)
    local closed, late = f:close()
    if not ok or not closed then
        return nil, why or late
    end
    return os.rename(new, dir .. "/" .. name)
end

---Notes in the cache which layers this home's templates need, so that no
---collection of any home takes them.
---@param E table the engine
---@param more? string a layer that is about to be one of them
function M.write_roots(E, more)
    local ids = { more }
    for _, row in ipairs(E.state:rows("SELECT DISTINCT b.layer AS id FROM tags t" ..
        " JOIN builds b ON b.id = t.build_id WHERE b.layer IS NOT NULL")) do
        ids[#ids + 1] = row.id ~= more and row.id or nil
    end
    table.sort(ids)
    local text = E.paths.home .. "\n" .. table.concat(ids, "\n") .. "\n"
    if text == E.roots then
        return
    end
    local ok, err = replace_file(E.paths.cache .. "/roots", E.home_hash, text)
    E.roots = ok and text or nil
    if not ok then
        log.error("the templates' layers are not noted in the cache: %s", err)
    end
end

---Sees to it that new layers are on the disk; until then the next boot reads them
---once before it trusts them. Waits for nothing.
---@param cache string
---@param ids string[]
function M.sync(cache, ids)
    task.spawn_quiet(function()
        local ok, err = engine.layers_sync(cache, ids)
        if not ok then
            log.error("layers are not on the disk: %s", err.message)
        end
    end)
end

---A lease that keeps what it lists from collections, until it is released.
---@param cache string
---@param name string [0-9a-z-]{1,64}
---@return {add: fun(self: table, ...: string), release: fun(self: table)}
function M.lease(cache, name)
    local held = Error.check(engine.lease(cache, name, {}))
    return {
        add = function(_, ...)
            Error.check(held:add(cache, { ... }))
        end,
        release = function()
            held:close()
            engine.lease_forget(cache, name)
        end,
    }
end

return M
