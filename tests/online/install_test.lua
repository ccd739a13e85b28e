-- What users begin with, from the real registries: in a template, as `user`.
-- Run by `make test-online`; uses the engine of $E2BLUA_HOME.
local Sandbox = require "e2b.sandbox"
local Template = require "e2b.template"
local rig = require "engine_rig"
local t = require "tests"
local wire = require "e2b_wire"

local MINUTES <const> = 60
local NAME <const> = "online-" .. wire.random(6)

t.before(rig.warm_up)

local function build(name, template)
    local lines = {}
    Template.build(template, name, {
        skip_cache = true,
        headers = { Connection = "close" },
        on_build_logs = function(entry)
            lines[#lines + 1] = entry.message
            print("    " .. entry.message)
        end,
    })
    return table.concat(lines, "\n")
end

t.test("claude and its SDKs install as user and start", { timeout = 20 * MINUTES }, function()
    local log = build(NAME, Template():from_base_image()
        :run_cmd("npm install -g @anthropic-ai/claude-code")
        :run_cmd("pip install claude-agent-sdk")
        :run_cmd("pip install anthropic")
        :set_start_cmd("claude --version; sleep infinity", "claude --version"))
    t.match(log, "%d+%.%d+%.%d+ %(Claude Code%)")
    local sandbox <close> = Sandbox.create(NAME, { timeout = 5 * MINUTES,
        allow_internet_access = false })
    local r = sandbox.commands:run("id -un; claude --version; python3 -c '" ..
        "import anthropic, claude_agent_sdk; print(anthropic.__version__)'")
    print(r.stdout)
    t.match(r.stdout, "^user\n%d+%.%d+%.%d+ %(Claude Code%)\n%d+%.%d+")
end)

t.test("a sandbox reaches what it is allowed, nothing else", { timeout = 5 * MINUTES }, function()
    local asked <close> = Sandbox.create("base", { timeout = MINUTES,
        allow_internet_access = false })
    local registry = asked.commands:run("npm config get registry").stdout:match("%S+")
    local sandbox <close> = Sandbox.create("base", { timeout = 3 * MINUTES,
        network = { allow_out = { registry:match("://([^/:]+)") }, deny_out = { "0.0.0.0/0" } } })
    local function status(url)
        return sandbox.commands:run("curl -sS -m 60 -o /dev/null -w '%{http_code}' " .. url ..
            " || true").stdout
    end
    t.eq(status(registry .. "left-pad"), "200")
    t.eq(status("https://example.com/"), "000")
    t.match(table.concat(sandbox:get_info().notes, "\n"),
        "connections? refused by policy, the last: example%.com:443")
end)
