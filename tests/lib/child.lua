--- Child processes for tests: child.start(words, opts) -> c. They do not block the loop; what still
--- runs when the test ends is killed.
local fs = require "e2b_fs"
local process = require "e2b_process"
local t = require "tests"
local task = require "e2b_task"

local M = {}

local Child = {}
Child.__index = Child

local function quoted(word)
    return "'" .. tostring(word):gsub("'", [['\'']]) .. "'"
end

M.quoted = quoted

local function await(what, seconds, fn)
    local deadline = task.now() + seconds
    while true do
        local v = fn()
        if v then
            return v
        end
        t.ok(task.now() < deadline, what)
        task.sleep(0.02)
    end
end

--- fn() until it is true; fails the test after so many seconds.
---@return any
function M.await(what, seconds, fn)
    return await(what, seconds, fn)
end

--- Starts a program.
---@param words string[]
---@param opts? {env: table<string, string>, dir: string}
---@return table child {pid}
function M.start(words, opts)
    opts = opts or {}
    local dir = t.tmpdir()
    local parts = { "env" }
    for name, value in pairs(opts.env or {}) do
        parts[#parts + 1] = quoted(name .. "=" .. value)
    end
    for _, word in ipairs(words) do
        parts[#parts + 1] = quoted(word)
    end
    -- The shell writes a name only when its content is complete.
    local script = ([[cd %s || exit; exec >/dev/null 2>&1 </dev/null; {
        %s >%s/out 2>&1 & echo $! >%s/pid.new; mv %s/pid.new %s/pid
        wait $!; echo $? >%s/code.new; mv %s/code.new %s/code; } &]]):format(
        quoted(opts.dir or dir), table.concat(parts, " "), dir, dir, dir, dir, dir, dir, dir)
    assert(os.execute(script))
    local self = setmetatable({ dir = dir }, Child)
    self.pid = await("the child does not start", 10, function()
        return math.tointeger(tonumber(fs.read_file(dir .. "/pid") or ""))
    end)
    t.cleanup(function()
        if not self.code and process.alive(self.pid) then
            self:signal "KILL"
            pcall(self.wait, self, 5)
        end
    end)
    return self
end

--- What it has printed so far, both streams.
---@return string
function Child:output()
    return fs.read_file(self.dir .. "/out", 1 << 30) or ""
end

---@param name string "INT", "KILL", ...
function Child:signal(name)
    os.execute(("kill -%s %d 2>/dev/null"):format(name, self.pid))
end

--- Waits until it has printed the pattern; returns its captures.
function Child:expect(pattern, seconds)
    await("the child does not print " .. pattern .. "; it printed: " .. self:output(),
        seconds or 15, function()
            return self:output():find(pattern) or fs.stat(self.dir .. "/code")
        end)
    return t.match(self:output(), pattern)
end

--- Waits for its end.
---@param seconds? number default 20
---@return integer code 128 + signal as a shell says it
---@return string output
function Child:wait(seconds)
    local ok, code = pcall(await, "", seconds or 20, function()
        return math.tointeger(tonumber(fs.read_file(self.dir .. "/code") or ""))
    end)
    t.ok(ok, "the child does not end; it printed: " .. self:output())
    self.code = code
    return self.code, self:output()
end

--- Runs a Lua text with the program under test.
---@param code string
---@param opts? table as of start
function M.lua(code, opts)
    return M.start({ process.exe(), "-e", code }, opts)
end

return M
