-- e2blua template: building, listing and deleting templates.
local Error = require "e2b.error"
local api = require "e2b.api"
local carried = require "e2b_carried"
local config_of = require "e2b.config"
local json = require "e2b_json"
local out = require "cli.lib.out"
local timestamp = require "e2b.timestamp"
local transport = require "e2b.transport"

local M = {
    summary = "builds, lists and deletes templates",
    example = "e2blua template build templates/web_app.lua",
}

local BUILDER <const> = "scripts/build_template.lua"

function M.define(p)
    p:command_target("action")
    local build = p:command("build", "Builds a template file and notes its id in .template_id.")
    build:argument("file", "A Lua file that returns a template; also its name in templates/.")
        :argname("<file>")
    build:argument("name", "Name of the template; default: as the file says."):args("?")
        :argname("<name>")
    build:epilog("Example:\n   e2blua template build templates/web_app.lua")
    local list = p:command("list", "Lists the templates of the backend.")
    list:flag("--json", "All that is known of them, as a JSON array.")
    list:epilog("Example:\n   e2blua template list --json")
    local delete = p:command("delete", "Deletes templates, by name or id.")
    delete:argument("template", "Templates by name or id."):args("+"):argname("<template>")
    delete:epilog("Example:\n   e2blua template delete web_app")
end

local function build(args)
    assert(load(carried.read(BUILDER), "@" .. BUILDER))(args.file, args.name)
    return 0
end

local function text_of(value)
    return (value == nil or value == json.null) and "-" or tostring(value)
end

local function list(args)
    local all = api.call(config_of.resolve(), {
        op = "template list",
        method = "GET",
        path = "/templates",
        ok = { [200] = true },
    }) or json.array()
    if args.json then
        out.json(all)
        return 0
    elseif #all == 0 then
        out.complain("no templates")
        return 0
    end
    local rows = {}
    for i, t in ipairs(all) do
        local names = type(t.aliases) == "table" and #t.aliases > 0 and t.aliases or t.names
        local updated = type(t.updatedAt) == "string" and timestamp.parse(t.updatedAt)
        rows[i] = {
            t.templateID, table.concat(type(names) == "table" and names or {}, " "),
            text_of(t.buildStatus), text_of(t.cpuCount), text_of(t.memoryMB),
            updated and out.clock(updated) or "-",
        }
    end
    out.columns({ "TEMPLATE", "NAMES", "STATE", "CPUS", "MB", "CHANGED (UTC)" }, rows)
    return 0
end

local function delete(args)
    local config, code = config_of.resolve(), 0
    for _, ref in ipairs(args.template) do
        local ok, err = pcall(api.call, config, {
            op = "template delete",
            method = "DELETE",
            path = transport.path("/templates/%s", ref),
            kind = "template",
            not_found = "not_found",
            ok = { [204] = true, [200] = true },
        })
        if ok then
            out.write(io.stdout, ref .. " is gone\n")
        elseif Error.is(err, "not_found") then
            out.complain(("there is no template %s; e2blua template list shows those there are")
                :format(ref))
            code = 1
        else
            error(err, 0)
        end
    end
    return code
end

function M.run(args)
    local actions = { build = build, list = list, delete = delete }
    return actions[args.action](args)
end

return M
