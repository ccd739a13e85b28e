-- e2blua url: where a server in a sandbox can be reached.
local Sandbox = require "e2b.sandbox"
local box = require "cli.lib.box"
local config_of = require "e2b.config"
local main = require "cli.lib.main"
local out = require "cli.lib.out"

local M = {
    summary = "prints the URL of a port of a sandbox",
    text = "It works as long as the sandbox lives and something listens on the port.",
    example = "xdg-open $(e2blua url i0abc1 3000)",
}

function M.define(p)
    p:argument("id", "The sandbox."):argname("<id>")
    p:argument("port", "1 to 65535."):argname("<port>")
end

function M.run(args)
    local port = math.tointeger(tonumber(args.port))
    if not port or port < 1 or port > 65535 then
        main.usage("url", ("a port is an integer from 1 to 65535, not %q"):format(args.port))
    end
    local info = box.known(Sandbox.get_info, args.id)
    local config = config_of.resolve()
    out.write(io.stdout, ("%s://%d-%s.%s\n"):format(config.scheme, port, info.sandbox_id,
        info.sandbox_domain or config.domain))
    return 0
end

return M
