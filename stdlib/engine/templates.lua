-- Templates: names, tags, builds' records. Source: control plane reference,
-- section 6; the building itself is builds.lua's.
local http = require "engine.http"
local json = require "e2b_json"
local layers_of = require "engine.layers"
local state = require "engine.state"
local uploads = require "engine.uploads"

local M = {}

-- The base image as a template that is always there.
local BASE_TEMPLATE <const> = "e2bluabase0000000000"
local BASE_BUILD <const> = "00000000-0000-4000-8000-0000000e2ba5"
local SLUG <const> = "local"
local MAX_CPU <const> = 32
local MAX_MEMORY <const> = 1 << 20
local MIN_DISK <const> = 16
local MAX_DISK <const> = 1 << 24
local MAX_NAME <const> = 128

local Templates = {}
Templates.__index = Templates

---@param E table
function M.new(E)
    return setmetatable({ E = E }, Templates)
end

---Makes or updates the record of the base image.
---@param layer string
function Templates:set_base(layer)
    local db, now = self.E.state, state.now()
    db:transaction(function()
        db:exec("INSERT OR IGNORE INTO templates(id, public, created_at, updated_at)" ..
            " VALUES(?1, 1, ?2, ?2)", BASE_TEMPLATE, now)
        db:exec("INSERT OR REPLACE INTO aliases(alias, template_id) VALUES('base', ?1)",
            BASE_TEMPLATE)
        db:exec("INSERT INTO builds(id, template_id, status, cpu_count, memory_mb, created_at," ..
            " updated_at," ..
            " finished_at, layer, context) VALUES(?1, ?2, 'ready', 2, 1024, ?3, ?3, ?3, ?4, ?5)" ..
            " ON CONFLICT(id) DO UPDATE SET layer = ?4, context = ?5", BASE_BUILD, BASE_TEMPLATE,
            now, layer, json.encode { user = "user" })
        db:exec("INSERT OR IGNORE INTO tags(template_id, tag, build_id, created_at)" ..
            " VALUES(?1, 'default', ?2, ?3)", BASE_TEMPLATE, BASE_BUILD, now)
    end)
    layers_of.write_roots(self.E)
end

---@param id string
---@return boolean
function M.is_base(id)
    return id == BASE_TEMPLATE
end

---The parts of a reference "[namespace/]name[:tag]"; nil when malformed.
---@param text string
---@return string|nil name
---@return string|nil tag
---@return string|nil namespace
function M.parse(text)
    text = text:match("^%s*(.-)%s*$"):lower()
    local path, tag = text:match("^([^:]+):([^:]*)$")
    path = path or text
    local namespace, name = path:match("^([^/]+)/([^/]+)$")
    name = name or path
    if not name:find("^[a-z0-9-_]+$") or namespace and not namespace:find("^[a-z0-9-_]+$") or
        tag and not tag:find("^[a-z0-9-_.]+$") then
        return nil
    end
    return name, tag, namespace
end

local function parse_or_fail(text)
    local name, tag, namespace = M.parse(text)
    if not name then
        http.fail(400, ("Invalid template reference: %s; expected [namespace/]name[:tag] of" ..
            " a-z, 0-9, - and _"):format(text))
    end
    return name, tag, namespace
end

---Template id of a name or id, or nil.
function Templates:id_of(name)
    local row = self.E.state:row("SELECT template_id AS id FROM aliases WHERE alias = ?1", name) or
        self.E.state:row("SELECT id FROM templates WHERE id = ?1", name)
    return row and row.id
end

function Templates:aliases_of(id)
    local names = {}
    for _, row in ipairs(self.E.state:rows(
        "SELECT alias FROM aliases WHERE template_id = ?1 ORDER BY rowid", id)) do
        names[#names + 1] = row.alias
    end
    return names
end

local function is_uuid(tag)
    return tag:find("^%x+%-%x+%-%x+%-%x+%-%x+$") ~= nil and #tag == 36
end

-- The ready build that a template's tag points to, as a row.
function Templates:tagged(id, tag)
    if is_uuid(tag) then
        return self.E.state:row("SELECT * FROM builds WHERE id = ?1 AND template_id = ?2" ..
            " AND status = 'ready'", tag, id)
    end
    return self.E.state:row("SELECT b.* FROM tags t JOIN builds b ON b.id = t.build_id" ..
        " WHERE t.template_id = ?1 AND t.tag = ?2", id, tag)
end

-- What its sandboxes may write, in MiB, or nil: as much as there is.
function Templates:disk_of(row)
    local mb = row.spec and json.decode(row.spec).disk_mb or self.E.disk_mb
    return mb and mb > 0 and mb or nil
end

---The build that a reference means, ready to make sandboxes of.
---@param ref string
---@return {id: string, template_id: string, alias: string, layers: string[], cpu_count: integer,
--- memory_mb: integer, disk_mb: integer|nil, context: table, start: table|nil, layer: string,
--- content: string|nil} content: digest of the top layer
function Templates:resolve(ref)
    local name, tag = parse_or_fail(ref)
    local id = self:id_of(name)
    if name == "base" and self.E.image.state ~= "ready" then
        http.fail(503, "the base image is " .. (self.E.image.state == "failed"
            and "missing: its making failed: " .. tostring(self.E.image.message)
            or "still being made: " .. tostring(self.E.image.stage)))
    end
    if not id then
        http.fail(404, ("template '%s' not found"):format(name))
    end
    local row = self:tagged(id, tag or "default")
    if not row then
        http.fail(404, ("tag '%s' does not exist for template '%s'"):format(tag or "default", name))
    end
    local layers, content, lost = nil, "it has none", nil
    if row.layer then
        layers, content, lost = layers_of.chain(self.E.paths.cache, row.layer)
    end
    if not layers then
        if lost and lost == self.E.image.id then
            self.E:lost_image()
        end
        http.fail(404, ("template '%s' has lost a layer of its build (%s); build it again")
            :format(name, content))
    end
    return {
        id = row.id,
        template_id = id,
        alias = self:aliases_of(id)[1] or "",
        layers = layers,
        layer = row.layer,
        content = content,
        cpu_count = row.cpu_count,
        memory_mb = row.memory_mb,
        disk_mb = self:disk_of(row),
        context = json.decode(row.context),
        start = row.start and json.decode(row.start),
    }
end

---Counts a sandbox made of the template.
function Templates:spawned(id)
    self.E.state:will("UPDATE templates SET spawned_at = ?2, spawn_count = spawn_count + 1" ..
        " WHERE id = ?1", id, state.now())
end

-- ---- POST /v3/templates ------------------------------------------------------

local function check_resources(doc)
    local cpu = http.field(doc, "cpuCount", "integer", 2)
    local memory = http.field(doc, "memoryMB", "integer", 1024)
    if cpu < 1 or memory < 128 then
        http.fail(400, ("validation error: cpuCount must be at least 1 and memoryMB at least" ..
            " 128, not %d and %d"):format(cpu, memory))
    elseif cpu > MAX_CPU then
        http.fail(400, ("CPU count must be at most %d"):format(MAX_CPU))
    elseif cpu ~= 1 and cpu % 2 ~= 0 then
        http.fail(400, "CPU count must be 1 or an even number")
    elseif memory % 2 ~= 0 then
        http.fail(400, "Memory must be divisible by 2")
    elseif memory > MAX_MEMORY then
        http.fail(400, ("Memory can't be higher than %d MiB (the largest of this engine)")
            :format(MAX_MEMORY))
    end
    return cpu, memory
end

-- E2B's wanted free space after the steps: here what a sandbox may write. 0, "no growth", is the
-- engine's default, as when it is left out.
local function check_disk(doc)
    local mb = http.field(doc, "minFreeDiskMb", "integer", 0)
    if mb == 0 then
        return nil
    elseif mb < MIN_DISK or mb > MAX_DISK then
        http.fail(400, ("validation error: minFreeDiskMb must be 0 or %d to %d, not %d"):format(
            MIN_DISK, MAX_DISK, mb))
    end
    return mb
end

local function check_tag(tag)
    if type(tag) ~= "string" or not tag:lower():find("^[a-z0-9-_.]+$") or is_uuid(tag) then
        http.fail(400, ("Invalid tag: %s; expected a-z, 0-9, -, _ and ."):format(tostring(tag)))
    end
    return tag:lower()
end
M.check_tag = check_tag

local function wanted_tags(doc, tag)
    local seen, tags = {}, {}
    local function add(t)
        t = check_tag(t)
        if not seen[t] then
            seen[t] = true
            tags[#tags + 1] = t
        end
    end
    if tag then
        add(tag)
    end
    for _, t in ipairs(http.field(doc, "tags", "table", {})) do
        add(t)
    end
    if #tags == 0 then
        tags[1] = "default"
    end
    return tags
end

-- Builds of the same tags that were never started end here, once their upload
-- links have expired: until then their client may be sending files, and the same
-- build asked for twice at once must not fail.
function Templates:supersede(id, tags)
    local wanted = {}
    for _, tag in ipairs(tags) do
        wanted[tag] = true
    end
    for _, row in ipairs(self.E.state:rows(
        "SELECT id, spec FROM builds WHERE template_id = ?1 AND status = 'waiting'" ..
        " AND created_at < ?2",
        id, state.now() - uploads.LINK_SECONDS * 1000000)) do
        for _, tag in ipairs(json.decode(row.spec).tags) do
            if wanted[tag] then
                self.E.state:exec("UPDATE builds SET status = 'error', reason = ?2," ..
                    " updated_at = ?3 WHERE id = ?1",
                    row.id, json.encode { message = "the build was superseded by a newer one." },
                    state.now())
                break
            end
        end
    end
end

---POST /v3/templates: registers a build.
---@param doc table
---@return table answer
function Templates:register(doc)
    local db, now = self.E.state, state.now()
    local ref = http.field(doc, "name", "string") or http.field(doc, "alias", "string")
    if not ref or ref == "" then
        http.fail(400, "Name is required")
    end
    if #ref > MAX_NAME then
        http.fail(400, ("Name must be at most %d characters"):format(MAX_NAME))
    end
    local name, tag, namespace = parse_or_fail(ref)
    if namespace and namespace ~= SLUG then
        http.fail(400, ("namespace '%s' is not that of this engine ('%s')"):format(namespace, SLUG))
    end
    if name == "base" then
        http.fail(403, "the name 'base' belongs to the base image of this engine; choose another")
    end
    local tags = wanted_tags(doc, tag)
    local cpu, memory = check_resources(doc)
    local disk = check_disk(doc)
    local id, build = self:id_of(name), state.uuid()
    local is_new = not id
    id = id or state.random_id(20)
    self:supersede(id, tags)
    db:transaction(function()
        if is_new then
            db:exec("INSERT INTO templates(id, created_at, updated_at) VALUES(?1, ?2, ?2)", id, now)
            db:exec("INSERT INTO aliases(alias, template_id) VALUES(?1, ?2)", name, id)
        end
        db:exec("INSERT INTO builds(id, template_id, status, cpu_count, memory_mb, created_at," ..
            " updated_at, spec)" ..
            " VALUES(?1, ?2, 'waiting', ?3, ?4, ?5, ?5, ?6)", build, id, cpu, memory, now,
            json.encode { tags = json.array(tags), name = name, disk_mb = disk })
    end)
    local aliases = self:aliases_of(id)
    return {
        templateID = id,
        buildID = build,
        public = false,
        names = json.array { SLUG .. "/" .. name },
        aliases = json.array(aliases),
        tags = json.array(tags),
    }
end

---Points the tags of a finished build to it.
function Templates:assign(template_id, build_id, tags)
    for _, tag in ipairs(tags) do
        self.E.state:exec("INSERT INTO tags(template_id, tag, build_id, created_at)" ..
            " VALUES(?1, ?2, ?3, ?4)" ..
            " ON CONFLICT(template_id, tag) DO UPDATE SET build_id = ?3, created_at = ?4",
            template_id, tag, build_id, state.now())
    end
end

-- ---- the other calls --------------------------------------------------------

---GET /templates/aliases/{alias}
function Templates:alias(ref)
    local name, tag, namespace = parse_or_fail(ref)
    if namespace and namespace ~= SLUG then
        http.fail(400, ("namespace '%s' is not that of this engine ('%s')"):format(namespace, SLUG))
    end
    local id = self:id_of(name)
    if not id then
        http.fail(404, ("template '%s' not found"):format(name))
    end
    if tag and not self:tagged(id, tag) then
        http.fail(404, ("tag '%s' does not exist for template '%s'"):format(tag, name))
    end
    return { templateID = id, public = M.is_base(id) }
end

local ZERO_BUILD <const> = "00000000-0000-0000-0000-000000000000"

function Templates:describe(row)
    local db = self.E.state
    local last = db:row("SELECT * FROM builds WHERE template_id = ?1" ..
        " ORDER BY created_at DESC LIMIT 1", row.id)
    local ready = db:row("SELECT b.* FROM tags t JOIN builds b ON b.id = t.build_id" ..
        " WHERE t.template_id = ?1 ORDER BY t.created_at DESC LIMIT 1", row.id)
    local count = db:row("SELECT count(*) AS n FROM builds WHERE template_id = ?1", row.id).n
    local aliases, names = self:aliases_of(row.id), {}
    for i, alias in ipairs(aliases) do
        names[i] = M.is_base(row.id) and alias or SLUG .. "/" .. alias
    end
    return {
        templateID = row.id,
        buildID = ready and ready.id or ZERO_BUILD,
        cpuCount = ready and ready.cpu_count or 0,
        memoryMB = ready and ready.memory_mb or 0,
        diskSizeMB = ready and self:disk_of(ready) or 0,
        public = row.public ~= 0,
        aliases = json.array(aliases),
        names = json.array(names),
        createdAt = state.time(row.created_at),
        updatedAt = state.time(row.updated_at),
        createdBy = json.null,
        lastSpawnedAt = row.spawned_at and state.time(row.spawned_at) or json.null,
        spawnCount = row.spawn_count,
        buildCount = count,
        envdVersion = "0.6.13",
        buildStatus = last and last.status or "waiting",
    }
end

---GET /templates
function Templates:list()
    local out = json.array {}
    for _, row in ipairs(self.E.state:rows("SELECT * FROM templates ORDER BY created_at, id")) do
        out[#out + 1] = self:describe(row)
    end
    return out
end

---The id of a reference that must exist.
function Templates:must_find(ref)
    local name = parse_or_fail(ref)
    local id = self:id_of(name)
    if not id then
        http.fail(404, ("template '%s' not found"):format(name))
    end
    return id, name
end

---DELETE /templates/{ref}
function Templates:delete(ref)
    local id, name = self:must_find(ref)
    if M.is_base(id) then
        http.fail(403, "the base image of this engine cannot be deleted")
    end
    for _, record in pairs(self.E.boxes.live) do
        if record.template_id == id then
            http.fail(400, ("cannot delete template '%s' because there are running sandboxes" ..
                " using it"):format(name))
        end
    end
    self.E.builds:cancel("its template was deleted", function(build)
        return build.template_id == id
    end)
    self.E.state:exec("DELETE FROM templates WHERE id = ?1", id)
    layers_of.write_roots(self.E)
end

---POST /templates/tags
function Templates:add_tags(doc)
    local target = http.field(doc, "target", "string", "")
    local tags = http.field(doc, "tags", "table", {})
    if #tags == 0 then
        http.fail(400, "At least one tag is required")
    end
    for i, tag in ipairs(tags) do
        tags[i] = check_tag(tag)
    end
    local name, tag = parse_or_fail(target)
    local id = self:must_find(name)
    local build = self:tagged(id, tag or "default")
    if not build then
        http.fail(404, ("tag '%s' does not exist for template '%s'"):format(tag or "default", name))
    end
    self:assign(id, build.id, tags)
    return { tags = json.array(tags), buildID = build.id }
end

---DELETE /templates/tags
function Templates:remove_tags(doc)
    local ref = http.field(doc, "name", "string", "")
    local tags = http.field(doc, "tags", "table", {})
    local name, tag = parse_or_fail(ref)
    if tag then
        http.fail(400, "name must not contain a tag: " .. ref)
    elseif #tags == 0 then
        http.fail(400, "At least one tag is required")
    end
    local id = self:must_find(name)
    for _, t in ipairs(tags) do
        if t == "default" then
            http.fail(400, "the tag 'default' cannot be removed")
        end
    end
    for _, t in ipairs(tags) do
        self.E.state:exec("DELETE FROM tags WHERE template_id = ?1 AND tag = ?2", id, check_tag(t))
    end
    layers_of.write_roots(self.E)
end

---GET /templates/{ref}/tags
function Templates:tags(ref)
    local id, out = self:must_find(ref), json.array {}
    for _, row in ipairs(self.E.state:rows(
        "SELECT tag, build_id, created_at FROM tags WHERE template_id = ?1 ORDER BY tag", id)) do
        out[#out + 1] = {
            tag = row.tag, buildID = row.build_id, createdAt = state.time(row.created_at),
        }
    end
    return out
end

return M
