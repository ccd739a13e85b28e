-- The files of one COPY: which they are, their hash, their archive.
-- Source: e2b-dev/E2B python-sdk 2.63, template/utils.py.
local archive = require "e2b_archive"
local fs = require "e2b_fs"
local Error = require "e2b.error"
local glob = require "e2b.template.glob"

local M = {}

local MAX_IGNORE_FILE <const> = 1 << 20

-- ---- what is left out ----------------------------------------------------------

local function add_rule(rules, line, from)
    local text = line:match("^%s*(.-)%s*$")
    if text == "" or text:sub(1, 1) == "#" then
        return
    end
    local negated, pattern = text:match("^(!?)%s*(.*)$")
    local compiled, why = glob.compile(pattern, true)
    if not compiled then
        Error.raise("template", ("the pattern %q in %s is malformed: %s"):format(text, from, why))
    end
    if #compiled > 0 then
        rules[#rules + 1] = { glob = compiled, negated = negated == "!" }
    end
end

---Rules of .dockerignore, then those of the template. Docker's meaning: a
---folder that matches takes everything below it along, `!` takes back, the last
---match wins.
---@param context string
---@param patterns string[]
---@return table[]
function M.rules(context, patterns)
    local rules = {}
    if fs.stat(context .. "/.dockerignore") then
        local text = Error.check(fs.read_file(context .. "/.dockerignore", MAX_IGNORE_FILE))
        for line in text:gmatch("[^\r\n]+") do
            add_rule(rules, line, ".dockerignore")
        end
    end
    for _, pattern in ipairs(patterns) do
        add_rule(rules, pattern, "file_ignore_patterns")
    end
    return rules
end

-- Whether the rule matches the names, or a folder above.
local function rule_matches(rule, names)
    local prefix = {}
    for i, name in ipairs(names) do
        prefix[i] = name
        if glob.matches(rule.glob, prefix, true) then
            return true
        end
    end
    return false
end

local function is_excluded(rules, names)
    local excluded = false
    for _, rule in ipairs(rules) do
        if rule.negated == excluded and rule_matches(rule, names) then
            excluded = not rule.negated
        end
    end
    return excluded
end

-- ---- which they are ------------------------------------------------------------

-- The leading names without a pattern in them: where to look.
local function static_part(names)
    local fixed = {}
    for i, name in ipairs(names) do
        if glob.is_pattern(name) then
            break
        end
        fixed[i] = name
    end
    return #fixed > 0 and table.concat(fixed, "/") or "."
end

-- Whether the pattern matches the path or a folder above it, from below on.
local function is_wanted(pattern, names)
    local prefix = {}
    if glob.matches(pattern, prefix) then
        return true
    end
    for i, name in ipairs(names) do
        prefix[i] = name
        if glob.matches(pattern, prefix) then
            return true
        end
    end
    return false
end

---Paths relative to the context, in the order of hash and archive: matches of
---src and all below those that are folders, without what the rules exclude.
---Links are members themselves and are not followed.
---@param context string
---@param src string may be a glob
---@param rules table[] by M.rules
---@return string[] paths at least one; else raises kind template
function M.paths(context, src, rules)
    local pattern = glob.compile(src)
    local found, err = archive.list(context, static_part(glob.split(src)))
    Error.check(found, err)
    local paths = {}
    for _, path in ipairs(found) do
        local names = glob.split(path)
        if is_wanted(pattern, names) and (#names == 0 or not is_excluded(rules, names)) then
            paths[#paths + 1] = path
        end
    end
    if #paths == 0 then
        Error.raise("template", ("No files found in %s/%s"):format(context, src), {
            remedy = #found > 0 and "everything there is excluded by .dockerignore or" ..
                " file_ignore_patterns" or "paths of copy are relative to the folder of the" ..
                " template's file, or to file_context_path",
        })
    end
    -- Sorted as absolute paths, where the root has no name of its own.
    table.sort(paths, function(a, b)
        return (a == "." and "" or "/" .. a) < (b == "." and "" or "/" .. b)
    end)
    return paths
end

---@class e2b.template.FileSet
---@field context string
---@field paths string[]
---@field hash string
---@field follow boolean

---The file set of an instruction, hashed.
---@param context string
---@param rules table[]
---@param copy {src: string, dest: string, resolve_symlinks?: boolean}
---@return e2b.template.FileSet
function M.of(context, rules, copy)
    local paths = M.paths(context, copy.src, rules)
    local follow = copy.resolve_symlinks == true
    local hash = Error.check(archive.hash(context, paths, "COPY " .. copy.src .. " " .. copy.dest,
        follow))
    return { context = context, paths = paths, hash = hash, follow = follow }
end

---@class e2b.template.Archive the temporary file goes with the <close> variable
---@field path string
---@field size integer
local Archive = {}
Archive.__index = Archive

function Archive:__close()
    os.remove(self.path)
end

---Packs the set into a temporary file.
---@param set e2b.template.FileSet
---@param gzip boolean
---@return e2b.template.Archive
function M.pack(set, gzip)
    local path, size = archive.pack(set.context, set.paths, gzip, set.follow)
    Error.check(path, size)
    return setmetatable({ path = path, size = size }, Archive)
end

return M
