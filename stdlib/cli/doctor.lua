-- e2blua doctor: what this machine lacks, what is lost by it, how to mend it.
local facts = require "cli.lib.facts"
local findings = require "cli.lib.findings"
local json = require "e2b_json"
local out = require "cli.lib.out"

local M = {
    summary = "says what this machine lacks for sandboxes, and how to mend it",
    text = "Exits with 1 when something is missing that sandboxes cannot be made without.",
    example = "e2blua doctor",
}

function M.define(p)
    p:flag("--json", "The findings as a JSON array.")
end

local function show(finding)
    out.write(io.stdout, ("%-8s %s\n"):format(finding.level, finding.what))
    if finding.lost then
        out.write(io.stdout, "           lost: " .. finding.lost .. "\n")
    end
    if finding.mend then
        out.write(io.stdout, "           mend: " .. finding.mend .. "\n")
    end
end

function M.run(args)
    local list, code = findings.all(facts.gather()), 0
    for _, finding in ipairs(list) do
        if finding.level == "missing" then
            code = 1
        end
        if not args.json then
            show(finding)
        end
    end
    if args.json then
        out.json(json.array(list))
    end
    return code
end

return M
