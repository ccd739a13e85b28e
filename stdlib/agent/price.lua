-- What a reply of a model costs, by its published list price. A model that is
-- not in the list has no known price: nil, never 0.
local M = {}

-- US dollars for a million tokens (platform.claude.com, "Pricing"): input,
-- output, reading the prompt cache, writing it (for five minutes). `over` are
-- the prices of a request whose prompt is longer than `limit` tokens.
local function price(input, output, read)
    return { input = input, output = output, read = read or input / 10, write = input * 1.25 }
end

local HAIKU_5_5 = price(0.1, 0.5)
HAIKU_5_5.limit = 100000
HAIKU_5_5.over = price(0.5, 2.5)

local PRICES = {
    ["claude-fable-5-1"] = price(10, 50, 0.25),
    ["claude-fable-5"] = price(10, 50),
    ["claude-opus-5-5"] = price(4, 20, 0.2),
    ["claude-opus-5"] = price(5, 25),
    ["claude-opus-4-8"] = price(5, 25),
    ["claude-opus-4-7"] = price(5, 25),
    ["claude-opus-4-6"] = price(5, 25),
    ["claude-opus-4-5"] = price(5, 25),
    ["claude-opus-4-1"] = price(15, 75),
    ["claude-opus-4"] = price(15, 75),
    ["claude-sonnet-5-5"] = price(2, 10, 0.1),
    ["claude-sonnet-5"] = price(2, 10),
    ["claude-sonnet-4-6"] = price(3, 15),
    ["claude-sonnet-4-5"] = price(3, 15),
    ["claude-sonnet-4"] = price(3, 15),
    ["claude-haiku-5-5"] = HAIKU_5_5,
    ["claude-haiku-4-5"] = price(1, 5),
    ["claude-3-5-haiku"] = price(0.8, 4),
}

---The price of a model: its name as in the list, with or without a date.
---@param model string
---@return table|nil price dollars for a million tokens: input, output, read, write
function M.of(model)
    return PRICES[model] or PRICES[(model:gsub("%-%d%d%d%d%d%d%d%d$", ""))]
end

---The cost of one reply.
---@param model string
---@param usage table `usage` of the Messages API
---@return number|nil dollars nil when the price is not known
function M.cost(model, usage)
    local p = M.of(model)
    if not p then
        return nil
    end
    local fresh = usage.input_tokens or 0
    local written = usage.cache_creation_input_tokens or 0
    local read = usage.cache_read_input_tokens or 0
    if p.limit and fresh + written + read > p.limit then
        p = p.over
    end
    local sum = fresh * p.input + written * p.write + read * p.read
        + (usage.output_tokens or 0) * p.output
    return sum / 1e6
end

return M
