-- e2blua completion: what a shell needs to complete command lines.
local main = require "cli.lib.main"
local out = require "cli.lib.out"

local M = {
    summary = "prints the completions for a shell",
    text = "bash: source <(e2blua completion bash), or save it as\n" ..
        "   ~/.local/share/bash-completion/completions/e2blua\n" ..
        "zsh: save it as _e2blua in a folder of $fpath\n" ..
        "fish: save it as ~/.config/fish/completions/e2blua.fish",
    example = "source <(e2blua completion bash)",
}

function M.define(p)
    p:argument("shell", "bash, zsh or fish."):choices { "bash", "zsh", "fish" }:argname("<shell>")
end

---A parser of all verbs.
---@return any
function M.parser()
    local p = require("argparse")("e2blua")
    p:command_target("verb")
    p:flag("-v --verbose", "Say what happens.")
    p:flag("--version", "Name and version.")
    p:option("-e", "Run this Lua code.")
    for _, name in ipairs(main.VERBS) do
        local verb = require("cli." .. name)
        main.dress(p:command(name), verb)
    end
    return p
end

function M.run(args)
    local p = M.parser()
    out.write(io.stdout, p["get_" .. args.shell .. "_complete"](p))
    return 0
end

return M
