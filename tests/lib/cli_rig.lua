--- The program's verbs against the fake server, with their outputs apart.
local child = require "child"
local fs = require "e2b_fs"
local fake_e2b = require "fake_e2b"
local process = require "e2b_process"
local t = require "tests"

local M = {}

--- The environment in which the program talks to the fake server.
---@param fake tests.Fake
---@return table<string, string>
function M.env(fake)
    return {
        E2BLUA_BACKEND = "remote",
        E2B_API_URL = fake.url,
        E2B_SANDBOX_URL = fake.url,
        E2B_API_KEY = fake_e2b.API_KEY,
        E2B_DOMAIN = fake_e2b.DOMAIN,
    }
end

--- Runs `e2blua words...`.
---@param words string[]
---@param opts? {env: table<string, string>, input: string|nil, timeout: number|nil}
---@return integer code
---@return string stdout
---@return string stderr
function M.run(words, opts)
    opts = opts or {}
    local dir = t.tmpdir()
    local parts = { child.quoted(process.exe()) }
    for _, word in ipairs(words) do
        parts[#parts + 1] = child.quoted(word)
    end
    local input = "/dev/null"
    if opts.input then
        input = dir .. "/in"
        assert(fs.write_file(input, opts.input))
    end
    local line = ("%s >%s/stdout 2>%s/stderr <%s"):format(table.concat(parts, " "), dir, dir, input)
    local code = child.start({ "sh", "-c", line }, { env = opts.env, dir = opts.dir })
        :wait(opts.timeout or 30)
    return code, fs.read_file(dir .. "/stdout", 1 << 30), fs.read_file(dir .. "/stderr", 1 << 30)
end

return M
