-- Builds a template file and notes its id in .template_id:
--     e2blua build_template.lua templates/web_app.lua [NAME]
-- The file returns a template and, if it likes, the options of its build.
local Error = require "e2b.error"
local config_of = require "e2b.config"
local e2b = require "e2b"
local fs = require "e2b_fs"
local id_file = require "e2b.template.id_file"

local Template = e2b.Template

local function usage(text)
    Error.raise("invalid_argument", text,
        { remedy = "usage: e2blua build_template.lua FILE [NAME]" })
end

-- The file as given, or by its name in templates/.
local function find(name)
    for _, path in ipairs({ name, "templates/" .. name, "templates/" .. name .. ".lua" }) do
        local found = fs.stat(path)
        if found and found.type == "file" then
            return path
        end
    end
    usage(("there is no template file %s, here or in templates/"):format(name))
end

local function load_template(path)
    local chunk, why = loadfile(path)
    if not chunk then
        Error.raise("template", why)
    end
    local template, opts = chunk()
    if not Template.is_template(template) then
        Error.raise("template", ("%s must return a template, not %s"):format(path,
            template == nil and "nothing" or "a " .. type(template)))
    end
    return template, type(opts) == "table" and opts or {}
end

-- Beside templates/ when the file lies in it, else in the current folder.
local function note_path(path)
    local real = Error.check(fs.realpath(path))
    local project = real:match("^(.*)/templates/[^/]*$")
    return (project or fs.cwd()) .. "/" .. id_file.NAME
end

local function main(file, name)
    if not file then
        usage("no template file given")
    end
    local path = find(file)
    local template, opts = load_template(path)
    opts.name = name or opts.name or opts.alias or path:match("([^/]*)%.lua$") or path
    opts.alias = nil
    opts.on_build_logs = opts.on_build_logs or e2b.default_build_logger()
    local info = Template.build(template, opts)
    local note = note_path(path)
    id_file.write(note, config_of.resolve({}), info.template_id)
    print(("Template %s is ready: %s (noted in %s)"):format(info.name, info.template_id, note))
end

main(...)
