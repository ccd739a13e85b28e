--- The client scripts in Lua, Python and JavaScript, each in a process of its own against the
--- engine that runs.
local bench = require "bench"
local fs = require "e2b_fs"
local json = require "e2b_json"
local process = require "e2b_process"

local M = {}

-- What the official clients are told of our engine. With their 200 connections all in use by
-- streams they would wait for ever.
local function environment()
    local info = require("engine.client").info(require("engine.paths").of())
    local url = "http://127.0.0.1:" .. info.port
    return { "env", "E2B_API_URL=" .. url, "E2B_SANDBOX_URL=" .. url, "E2B_API_KEY=" ..
        info.api_key, "E2B_MAX_CONNECTIONS=5000",
        "E2B_ENVD_RPC_CONNECTIONS=5000" }
end

-- An import of a script is looked for beside it.
local function javascript()
    local path = bench.tools .. "/js/bench_client.mjs"
    assert(fs.write_file(path, assert(fs.read_file(bench.here .. "/client.mjs"))))
    return { bench.tools .. "/bin/node", path }
end

local PROGRAMS = {
    e2blua = function()
        return { process.exe(), bench.here .. "/client.lua" }
    end,
    python3 = function()
        return { bench.tools .. "/bin/python", bench.here .. "/client.py" }
    end,
    node = javascript,
}

--- Runs one; its answer.
---@param name "e2blua"|"python3"|"node"
---@param ... any
---@return table
function M.run(name, ...)
    local words = name == "e2blua" and {} or environment()
    table.move(PROGRAMS[name](), 1, 2, #words + 1, words)
    table.move({ ... }, 1, select("#", ...), #words + 1, words)
    local text = bench.output(words)
    return assert(json.decode(text:gsub("%s+$", ""):match "[^\n]*$"), text)
end

--- The clients to take samples of in turn: ours first.
---@param sample fun(name: string): any
function M.subjects(sample)
    local list = {}
    for i, name in ipairs { "e2blua", "python3", "node" } do
        list[i] = { name = name, ours = i == 1, sample = function()
            return sample(name)
        end }
    end
    return list
end

return M
