-- e2blua create: a new sandbox, which lives on.
local Sandbox = require "e2b.sandbox"
local box = require "cli.lib.box"
local out = require "cli.lib.out"

local M = {
    summary = "creates a sandbox and prints its id",
    example = "id=$(e2blua create base --timeout 600)",
}

function M.define(p)
    p:argument("template", "Template by name, name:tag or id."):args("?"):default("base")
        :argname("<template>")
    p:option("-t --timeout", "Seconds that it lives."):argname("<seconds>"):default("300")
        :convert(tonumber)
    p:option("-e --env", "Variable of all its commands; may be given several times.")
        :argname("<name=value>"):count("*")
    p:option("-m --metadata", "What list can find it by; may be given several times.")
        :argname("<name=value>"):count("*")
    p:flag("--no-internet", "It gets no way out.")
end

function M.run(args)
    local sbx = Sandbox.create(args.template, {
        timeout = args.timeout,
        envs = box.pairs(args.env, "--env"),
        metadata = box.pairs(args.metadata, "--metadata"),
        allow_internet_access = not args.no_internet,
    })
    out.write(io.stdout, sbx.sandbox_id .. "\n")
    return 0
end

return M
