-- The options of agent.query: checked, completed from the environment and
-- `.env`, and turned into what the loop works with.
local Error = require "e2b.error"
local check = require "e2b.options"
local dotenv = require "e2b.dotenv"

local M = {}

-- Names and meanings are those of ClaudeAgentOptions; the second group is ours.
local SPEC = {
    model = "text", system_prompt = "string|table", max_turns = "count",
    tools = "table", allowed_tools = "table", disallowed_tools = "table",
    permission_mode = { "default", "acceptEdits", "bypassPermissions", "plan", "dontAsk" },
    can_use_tool = "callable", cwd = "text", env = "map",
    betas = "table", thinking = "table", include_partial_messages = "boolean",

    sandbox = "table|userdata", user = "text", max_tokens = "count",
    max_retries = "integer", request_timeout = "seconds", idle_timeout = "seconds",
}

-- What a short name means when the environment does not say.
local FAMILIES = { opus = "claude-opus-5-5", sonnet = "claude-sonnet-5-5",
    haiku = "claude-haiku-5-5" }
local DEFAULT_PROMPT = "You are an agent that works in an isolated Linux sandbox. "
    .. "Do what the user asks with the tools you have, check that it works, "
    .. "and end with a short summary."

local function invalid(message, remedy)
    Error.raise("invalid_argument", message, { remedy = remedy, op = "agent.query" })
end

-- Looks in options.env, then in the environment and .env.
local function lookup(options)
    return function(name)
        local own = options.env and options.env[name]
        if own then -- an empty text hides what the environment has
            return own ~= "" and own or nil
        end
        return (dotenv.lookup(name))
    end
end

local function model_name(options, env)
    local name = options.model or env "ANTHROPIC_MODEL" or "sonnet"
    local family = FAMILIES[name]
    if family then
        return env("ANTHROPIC_DEFAULT_" .. name:upper() .. "_MODEL") or family
    end
    return name
end

---Whether a URL is of this machine.
---@param url string
---@return boolean
function M.is_loopback(url)
    local host = url:match("^%w+://([^/]+)") or ""
    host = host:gsub("^.*@", ""):gsub(":%d+$", "")
    return host == "localhost" or host == "[::1]" or host:find("^127%.") ~= nil
end

-- E2BLUA_MODEL=offline: nothing may spend anybody's money.
local function check_offline(env, base_url)
    if env "E2BLUA_MODEL" == "offline" and not M.is_loopback(base_url) then
        Error.raise("authentication", "E2BLUA_MODEL=offline forbids requests to "
            .. base_url:match("^%w+://[^/]*"), { op = "agent.query",
            remedy = "unset E2BLUA_MODEL to use a live model, or give a tape" })
    end
end

local function endpoint(options, env)
    local base_url = (env "ANTHROPIC_BASE_URL" or "https://api.anthropic.com"):gsub("/+$", "")
    if not base_url:find("^https?://[^/]+") then
        invalid(("ANTHROPIC_BASE_URL is '%s', which is no http or https URL"):format(base_url))
    end
    check_offline(env, base_url)
    local token, key = env "ANTHROPIC_AUTH_TOKEN", env "ANTHROPIC_API_KEY"
    if not token and not key then
        Error.raise("authentication", "there is no key for the model", { op = "agent.query",
            remedy = "set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN in the environment or .env" })
    end
    if not (options.env and options.env.ANTHROPIC_BASE_URL) then
        dotenv.warn_of_foreign_url({ "ANTHROPIC_BASE_URL" },
            key and "ANTHROPIC_API_KEY" or "ANTHROPIC_AUTH_TOKEN")
    end
    local ms = tonumber(env "API_TIMEOUT_MS" or "")
    return { base_url = base_url, api_key = key, auth_token = not key and token or nil,
        betas = options.betas, timeout = options.request_timeout or (ms and ms / 1000) or 600,
        idle_timeout = options.idle_timeout or 300, max_retries = options.max_retries or 4 }
end

local function system_prompt(options)
    local p = options.system_prompt
    if type(p) ~= "table" then
        return p or DEFAULT_PROMPT
    elseif p.type == "preset" and p.preset == "claude_code" then
        return DEFAULT_PROMPT .. (p.append and "\n\n" .. p.append or "")
    elseif p.type == "custom" and type(p.prompt) == "string" then
        return p.prompt
    end
    invalid("option system_prompt must be a text, {type=\"preset\", preset=\"claude_code\", "
        .. "append=} or {type=\"custom\", prompt=}")
end

-- What Bash gets: everything named except what opens the model.
local function tool_env(options)
    local out = {}
    for name, value in pairs(options.env or {}) do
        if not name:find("^ANTHROPIC_") then
            out[name] = value
        end
    end
    return out
end

local function thinking(options)
    local t = options.thinking
    if not t or t.type == "disabled" then
        return nil
    elseif t.type == "adaptive" then
        return { type = "adaptive" }
    elseif t.type == "enabled" and math.type(t.budget_tokens) == "integer" then
        return { type = "enabled", budget_tokens = t.budget_tokens }
    end
    invalid("option thinking must be {type=\"adaptive\"}, {type=\"disabled\"} or "
        .. "{type=\"enabled\", budget_tokens=n}")
end

---Whether a key for a live model is at hand.
---@return boolean
function M.has_key()
    local env = lookup {}
    return (env "ANTHROPIC_API_KEY" or env "ANTHROPIC_AUTH_TOKEN") ~= nil
end

---Checks and completes the options of a query. permission_mode is
---"bypassPermissions" (the sandbox is the limit) unless allowed_tools or
---can_use_tool is given: then "default".
---@param options table|nil
---@return table resolved model, endpoint, key_source, system_prompt, max_tokens, thinking, env,
---and the given options
---Raises invalid_argument for an unknown or wrong option, authentication without a key.
function M.resolve(options)
    local out = check.check("agent.query", options, SPEC)
    options = options or {}
    if out.max_retries and out.max_retries < 0 then
        invalid(("option max_retries must be 0 or more, not %d"):format(out.max_retries))
    end
    local env = lookup(options)
    out.model = model_name(options, env)
    out.system_prompt = system_prompt(options)
    out.thinking = thinking(options)
    out.env = tool_env(options)
    out.endpoint = endpoint(options, env)
    out.key_source = out.endpoint.api_key and "ANTHROPIC_API_KEY" or "ANTHROPIC_AUTH_TOKEN"
    local max = tonumber(env "CLAUDE_CODE_MAX_OUTPUT_TOKENS" or "")
    out.max_tokens = options.max_tokens or math.tointeger(max) or 32000
    out.permission_mode = options.permission_mode
        or ((options.allowed_tools or options.can_use_tool) and "default")
        or "bypassPermissions"
    return out
end

return M
