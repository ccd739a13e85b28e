-- Tasks: running functions side by side. A task's error reaches whoever joins
-- it; when nobody does, the script fails with it.
local task = require "e2b_task"
local Error = require "e2b.error"
local options = require "e2b.options"

local M = {}

-- join gives the results of its function or raises its error, and kind timeout
-- when it takes longer; cancel makes the wait it is in raise, by default an
-- error of kind cancelled; error gives the error of a failed task, which then
-- counts as seen.
---@class e2b.Task
---@field join fun(self: e2b.Task, seconds?: number): ...
---@field cancel fun(self: e2b.Task, err?: any)
---@field status fun(self: e2b.Task): "ready"|"running"|"waiting"|"done"|"failed"
---@field error fun(self: e2b.Task): any

-- Tasks that belong together; closing the group cancels and joins the rest.
local Group = {}
Group.__index = Group

local function new_group()
    return setmetatable({ tasks = {}, done = {}, changed = task.cond() }, Group)
end

-- Tells the group how the task ended; as a <close> value it sees every end and
-- leaves the error to the scheduler, which adds the place.
local function ending(group, i)
    return setmetatable({}, {
        __close = function(_, err)
            group.done[i] = true
            group.first = group.first or i
            if err ~= nil then
                group.failed = group.failed or i
            end
            group.changed:broadcast()
        end,
    })
end

---Starts the i-th member: a function in a task of its own, or a task that runs.
---@param i integer
---@param fn function|e2b_task.Task
---@param ... any
function Group:add(i, fn, ...)
    local joins = type(fn) == "userdata" and fn or nil
    self.tasks[i] = task.spawn_quiet(function(...)
        local _ <close> = ending(self, i)
        if joins then
            return joins:join()
        end
        return fn(...)
    end, ...)
    self.joined = self.joined or {}
    self.joined[i] = joins
end

---Cancels the members that have not ended.
---@param err? any
function Group:cancel(err)
    for i, t in pairs(self.tasks) do
        if not self.done[i] then
            if self.joined[i] then
                self.joined[i]:cancel(err)
            end
            t:cancel(err)
        end
    end
end

-- Results are the caller's business; this only leaves nothing running.
function Group.__close(self)
    self:cancel()
    for i, t in pairs(self.tasks) do
        pcall(t.join, t)
        if self.joined[i] then
            pcall(self.joined[i].join, self.joined[i])
        end
    end
end

local function check_runnable(op, i, fn)
    local ok = type(fn) == "userdata" and (getmetatable(fn) or {}).__name == "e2b.task"
    if not ok then
        options.value(op, "argument " .. i, fn, "callable")
    end
end

local function runnables(op, ...)
    local list, from_table = table.pack(...), false
    if list.n == 1 and type(list[1]) == "table" and not getmetatable(list[1]) then
        list, from_table = list[1], true
        list = table.pack(table.unpack(list))
    end
    for i = 1, list.n do
        check_runnable(op, i, list[i])
    end
    return list, from_table
end

---Starts a function as a task of its own.
---@param fn function
---@param ... any its arguments
---@return e2b.Task
function M.spawn(fn, ...)
    options.value("spawn", "the first argument", fn, "callable")
    return task.spawn(fn, ...)
end

---Runs functions (or joins tasks) side by side and waits for all. The first
---error cancels the others and is raised when they have ended.
---@param ... function|e2b.Task|(function|e2b.Task)[] several, or one table of them
---@return any ... the first result of each; one table of them when a table was given
function M.gather(...)
    local list, from_table = runnables("gather", ...)
    local group <close> = new_group()
    for i = 1, list.n do
        group:add(i, list[i])
    end
    for i = 1, list.n do
        while not group.done[i] and not group.failed do
            group.changed:wait()
        end
        if group.failed then
            group.tasks[group.failed]:join()
        end
    end
    local results = {}
    for i = 1, list.n do
        results[i] = group.tasks[i]:join()
    end
    if from_table then
        return results
    end
    return table.unpack(results, 1, list.n)
end

---Calls fn(item, index) for every item, at most n at a time. The first error
---cancels the others and is raised when they have ended.
---@param items any[]
---@param n integer at most so many at once
---@param fn fun(item: any, index: integer): any
---@return any[] results in the order of the items
function M.parallel(items, n, fn)
    options.value("parallel", "items", items, "table")
    options.value("parallel", "n", n, "count")
    options.value("parallel", "fn", fn, "callable")
    local results, next_item, count = {}, 0, #items
    local function worker()
        while next_item < count do
            next_item = next_item + 1
            local i = next_item
            results[i] = fn(items[i], i)
        end
    end
    local workers = {}
    for i = 1, math.min(n, count) do
        workers[i] = worker
    end
    M.gather(workers)
    return results
end

---Runs functions (or joins tasks) side by side until the first has ended; the
---others are cancelled and joined.
---@param ... function|e2b.Task|(function|e2b.Task)[] at least one
---@return any ... the results of the first; its error is raised
function M.race(...)
    local list = runnables("race", ...)
    if list.n == 0 then
        Error.raise("invalid_argument", "race: there is nothing to run")
    end
    local group <close> = new_group()
    for i = 1, list.n do
        group:add(i, list[i])
    end
    while not group.first do
        group.changed:wait()
    end
    return group.tasks[group.first]:join()
end

---Waits.
---@param seconds number
function M.sleep(seconds)
    options.value("sleep", "seconds", seconds, "seconds")
    task.sleep(seconds)
end

---Calls fn(...) and raises kind timeout (deadline "task") when it has not
---ended in time; it is cancelled and joined first.
---@param seconds number
---@param fn function
---@param ... any
---@return any ... its results
function M.timeout(seconds, fn, ...)
    options.value("timeout", "seconds", seconds, "seconds")
    options.value("timeout", "fn", fn, "callable")
    local group <close> = new_group()
    group:add(1, fn, ...)
    local deadline = task.now() + seconds
    while not group.done[1] do
        local left = deadline - task.now()
        if left <= 0 or not group.changed:wait(left) and not group.done[1] then
            local err = Error.new("timeout",
                ("not done within %g seconds"):format(seconds),
                { op = "timeout", deadline = "task" })
            group:cancel(err)
            pcall(group.tasks[1].join, group.tasks[1])
            Error.raise(err)
        end
    end
    return group.tasks[1]:join()
end

---Monotonic seconds, for measuring.
---@return number
function M.now()
    return task.now()
end

return M
