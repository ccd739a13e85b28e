-- What main.c calls for a verb: reads the command line with argparse, runs
-- stdlib/cli/<verb>.lua, ends with its exit code (0 fine, 1 failed, 2 usage).
local process = require "e2b_process"

local M = {}

---@class cli.Verb
---@field summary string one line, no full stop
---@field text? string more for --help
---@field example string a command line
---@field define fun(parser: any) adds arguments, options and commands
---@field run fun(args: table): integer|nil exit code
---@field prepare? fun(words: string[]): string[] the words before they are parsed

---The verbs, as `e2blua --help` and the completions list them.
M.VERBS = {
    "create", "list", "kill", "exec", "shell", "cp", "url", "logs", "metrics", "template", "engine",
    "doctor", "completion",
}

---Adds what every verb has to a parser of argparse.
---@param parser any
---@param verb cli.Verb
---@return any parser
function M.dress(parser, verb)
    parser:description(verb.summary:gsub("^%l", string.upper) .. "." ..
        (verb.text and "\n\n" .. verb.text or ""))
    parser:epilog("Example:\n   " .. verb.example)
    parser:help_description_margin(30)
    parser:help_max_width(100)
    parser:flag("-v --verbose", "Say which backend is used, and why.")
    verb.define(parser)
    return parser
end

---Ends the program as one that was called wrongly.
---@param verb string
---@param text string
function M.usage(verb, text)
    text = text:gsub("\nDid you mean one of these: ", "; did you mean one of: ")
        :gsub("\nDid you mean ", "; did you mean ")
    io.stderr:write("e2blua: ", text, "\nTry: e2blua ", verb, " --help\n")
    os.exit(2)
end

---Runs a verb.
---@param name string
---@param ... string its words
function M.run(name, ...)
    if name == "engine" and ... == "serve" then
        require("engine.serve").run(select(2, ...))
        return
    end
    local verb = require("cli." .. name)
    local parser = M.dress(require("argparse")("e2blua " .. name), verb)
    local words = { ... }
    if verb.prepare then
        words = verb.prepare(words)
    end
    local ok, args = parser:pparse(words)
    if not ok then
        M.usage(name, args)
    end
    if args.verbose then
        process.verbose()
    end
    os.exit(verb.run(args) or 0)
end

return M
