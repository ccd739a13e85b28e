-- e2blua list: the sandboxes of the backend in use.
local box = require "cli.lib.box"
local json = require "e2b_json"
local out = require "cli.lib.out"

local M = {
    summary = "lists the sandboxes that run",
    example = "e2blua list --json",
}

function M.define(p)
    p:flag("--json", "All that is known of them, as a JSON array.")
    p:option("--template", "Only those of this template."):argname("<name>")
    p:option("-m --metadata", "Only those with this metadata; may be given several times.")
        :argname("<name=value>"):count("*")
end

function M.run(args)
    local metadata = box.pairs(args.metadata, "--metadata")
    local all = box.all { query = {
        metadata = next(metadata) and metadata or nil,
        template = args.template,
    } }
    if args.json then
        out.json(json.array(all))
        return 0
    end
    if #all == 0 then
        out.complain("no sandboxes")
        return 0
    end
    local rows = {}
    for i, info in ipairs(all) do
        rows[i] = {
            info.sandbox_id, info.name or info.template_id, info.state, out.clock(info.started_at),
            out.clock(info.end_at),
        }
    end
    out.columns({ "SANDBOX", "TEMPLATE", "STATE", "STARTED (UTC)", "ENDS (UTC)" }, rows)
    return 0
end

return M
