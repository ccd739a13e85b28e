-- Keeps the cache within its limit: after builds, and for `e2blua engine gc`.
-- Which layers go is host/sandbox/layers_gc.h's.
local Error = require "e2b.error"
local engine = require "e2b_engine"
local fs = require "e2b_fs"
local layers = require "engine.layers"
local log = require "engine.log"
local task = require "e2b_task"

local M = {}

M.DEFAULT = "20G"

local UNITS <const> = { [""] = 1, K = 1 << 10, M = 1 << 20, G = 1 << 30, T = 1 << 40 }

---Bytes of a size such as 500M, 1.5G or 1048576; nil for "none".
---@param text string
---@param what string what it is the value of, for the error
---@return integer|nil
function M.parse(text, what)
    if text == "none" then
        return nil
    end
    local number, unit = text:upper():match("^(%d+%.?%d*)%s*([KMGT]?)I?B?$")
    local bytes = number and math.tointeger(tonumber(number) * UNITS[unit] // 1)
    if not bytes then
        Error.raise("invalid_argument", ("%s must be a size such as 500M or 20G, or none, not %q")
            :format(what, text))
    end
    return bytes
end

---The limit of the cache in bytes, of E2BLUA_CACHE_MAX; nil: none.
---@return integer|nil
function M.limit()
    local text = fs.environ().E2BLUA_CACHE_MAX
    return M.parse(text and text ~= "" and text or M.DEFAULT, "E2BLUA_CACHE_MAX")
end

---A size as people read it.
---@param bytes integer
---@return string
function M.size(bytes)
    for _, unit in ipairs { "T", "G", "M", "K" } do
        if bytes >= UNITS[unit] then
            return ("%.1f %siB"):format(bytes / UNITS[unit], unit)
        end
    end
    return ("%d bytes"):format(bytes)
end

-- The three columns of a line that says what went or was damaged.
local function lines_of(text, pattern, ...)
    local names, out = { ... }, {}
    for line in text:gmatch("[^\n]+") do
        local entry = {}
        for i, value in ipairs { line:match(pattern) } do
            entry[names[i]] = value
        end
        out[#out + 1] = entry
    end
    return out
end

---@class engine.Collection
---@field layers integer that stay
---@field bytes integer of them
---@field template_bytes integer of them, those that registered templates need
---@field leased_bytes integer of them, those in use
---@field gone integer
---@field gone_bytes integer
---@field removed {id: string, bytes: string, why: "over"|"useless"}[]
---@field damaged {id: string, name: string, message: string}[] name: where it is now, or "-"
---@field aside integer removed layers that had been set aside
---@field aside_bytes integer of those that are kept
---@field tmp integer removed folders of dead builders
---@field checked integer by verify
---@field unchecked integer without a digest

---Collects the layers of a cache.
---@param cache string
---@param opts {max: integer|nil, dry_run: boolean|nil, verify: boolean|nil}
---@return engine.Collection
function M.run(cache, opts)
    local report = Error.check(engine.gc(cache, {
        max = opts.max,
        dry_run = opts.dry_run,
        verify = opts.verify,
        keep = engine.image_ready(cache),
    }))
    report.removed = lines_of(report.removed, "^(%S+) (%d+) (%S+)$", "id", "bytes", "why")
    report.damaged = lines_of(report.damaged, "^([^\t]*)\t([^\t]*)\t(.*)$", "id", "name", "message")
    return report
end

---Why a cache stays over its limit, or nil.
---@param report engine.Collection
---@param max integer|nil
---@return string|nil
function M.over(report, max)
    if not max or report.bytes + report.aside_bytes <= max then
        return nil
    end
    return ("the cache holds %s, over its limit of %s: templates need %s of it, %s are in use; " ..
        "delete templates (template delete NAME) or set E2BLUA_CACHE_MAX")
        :format(M.size(report.bytes), M.size(max), M.size(report.template_bytes),
            M.size(report.leased_bytes))
end

local function collect(E, max)
    layers.write_roots(E)
    local report = M.run(E.paths.cache, { max = max })
    for _, bad in ipairs(report.damaged) do
        log.warn("%s; set aside as %s", bad.message, bad.name)
    end
    if report.gone + report.tmp + report.aside > 0 then
        log.info("collected %d layers, %d set aside and %d unfinished ones: %s; the cache has %s",
            report.gone, report.aside, report.tmp, M.size(report.gone_bytes), M.size(report.bytes))
    end
    local why = M.over(report, max)
    if why then
        log.warn("%s", why)
    end
end

---Collects after a build, one collection at a time; waits for none.
---@param E table the engine
function M.after_build(E)
    local max = E.cache_max
    if not max or E.collecting then
        E.collect_again = max ~= nil
        return
    end
    E.collecting = true
    E.collector = task.spawn_quiet(function()
        repeat
            E.collect_again = false
            local ok, err = pcall(collect, E, max)
            if not ok then
                log.error("the cache is not collected: %s", Error.is(err) and err.message
                    or tostring(err))
            end
        until not E.collect_again
        E.collecting = false
    end)
end

return M
