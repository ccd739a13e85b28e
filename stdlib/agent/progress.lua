-- What a run shows of itself: steps with their times; a spinner on a terminal,
-- plain lines elsewhere.
local process = require "e2b_process"
local task = require "e2b_task"
local text = require "agent.text"

local M = {}

local TITLE = 62
-- Off a terminal a step says that it has begun when it takes longer than this.
local SLOW = 3
local TICK = 0.1

---@class agent.Progress
local Progress = {}
Progress.__index = Progress

---@class agent.Step
local Step = {}
Step.__index = Step

local function is_utf8()
    local locale = os.getenv "LC_ALL" or os.getenv "LC_CTYPE" or os.getenv "LANG" or ""
    return locale:lower():find("utf%-?8") ~= nil
end

---@param given? table out (default io.stdout), terminal (default: whether standard output is one),
---silent (shows nothing)
---@return agent.Progress
function M.new(given)
    given = given or {}
    local terminal = given.terminal
    if terminal == nil then
        terminal = not given.out and process.isatty(1)
    end
    local fancy = terminal and is_utf8()
    return setmetatable({ _out = given.out or io.stdout, _terminal = terminal,
        _silent = given.silent, _ok = fancy and "✓ " or "ok ", _bad = fancy and "✗ " or "FAILED ",
        _frames = fancy and { "⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏" }
            or { "-", "\\", "|", "/" } }, Progress)
end

function Progress:_write(...)
    if not self._silent then
        self._out:write(...)
        self._out:flush()
    end
end

function Progress:_erase()
    if self._terminal and self._drawn then
        self:_write("\r\27[K")
        self._drawn = false
    end
end

---Writes a line of text, above the step that is under way.
---@param line string
function Progress:line(line)
    self:_erase()
    self:_write(line, "\n")
end

-- Control characters of a title or note must not reach the terminal.
local function clean(s)
    return (s:gsub("%c", " "))
end

local function label(step)
    local s = step._title .. (step._note and " (" .. step._note .. ")" or "")
    return text.brief(clean(s), TITLE)
end

-- Pads by characters: the marks and some titles are not ASCII.
local function padded(s, width)
    return s .. (" "):rep(width - (utf8.len(s) or #s))
end

function Step:_draw()
    local p = self._progress
    local elapsed = task.now() - self._began
    if p._terminal then
        self._frame = (self._frame or 0) % #p._frames + 1
        p:_write("\r\27[K", p._frames[self._frame], " ", padded(label(self), TITLE),
            (" %6.1f s"):format(elapsed))
        p._drawn = true
    elseif elapsed > SLOW and not self._quiet and not self._told then
        self._told = true
        p:line("... " .. label(self))
    end
end

local function tick(step)
    while not step._over do
        step:_draw()
        step._changed:wait(TICK)
    end
end

---Begins a step. Only one is under way at a time: the one before must have ended.
---@param title string
---@param quiet? boolean nothing is left of it when it ends well
---@return agent.Step a variable with <close> ends it when the block ends
function Progress:step(title, quiet)
    local step = setmetatable({ _progress = self, _title = title, _quiet = quiet,
        _began = task.now(), _changed = task.cond() }, Step)
    if not self._silent then
        task.spawn_quiet(tick, step)
    end
    return step
end

---Says more about the step while it is under way.
---@param note string
function Step:note(note)
    self._note = note
end

function Step:_end(mark, note)
    if self._over then
        return
    end
    self._over = true
    self._changed:broadcast()
    self._note = note or self._note
    if self._note == "" then
        self._note = nil
    end
    local p = self._progress
    p:_erase()
    if mark then
        local width = TITLE + 3
        p:_write(padded(mark .. label(self), width), (" %6.1f s\n"):format(
            task.now() - self._began))
    end
end

---The step has ended well.
---@param note? string
function Step:done(note)
    self:_end(not self._quiet and self._progress._ok, note)
end

---The step has failed.
---@param note? string
function Step:fail(note)
    self:_end(self._progress._bad, note)
end

---Ends the step without a trace.
function Step:drop()
    self:_end(nil)
end

function Step:__close(err)
    if err ~= nil and not self._quiet then
        self:fail(self._note)
    else
        self:done()
    end
end

return M
