---@meta e2b_task

--- Tasks and their waits (host/bind/task_lib.c). Seconds are numbers from 0. A wait raises
--- `cancelled` in a cancelled task and `cannot_wait` where waiting is impossible.
---@class e2b_task
local M = {}

---@class e2b_task.Task
local Task = {}

--- Waits for the end of the task.
---@param seconds? number  then raises `timeout` with `deadline = "task"`; default: no limit
---@return any ...  results of its function; its error is raised
function Task:join(seconds) end

--- Every wait of the task raises from now on.
---@param err? any  default an error of kind `cancelled`
function Task:cancel(err) end

---@return "ready"|"running"|"waiting"|"done"|"failed"
function Task:status() end

---@return any err  of a failed task, which counts as seen; else nil
function Task:error() end

--- Starts a task. When it fails and nobody takes its error, the script fails with it.
---@param fn function
---@param ... any  its arguments
---@return e2b_task.Task
function M.spawn(fn, ...) end

--- The same; its error is the business of whoever spawned it.
---@param fn function
---@param ... any
---@return e2b_task.Task
function M.spawn_quiet(fn, ...) end

---@param seconds number
function M.sleep(seconds) end

---@return number seconds  monotonic
function M.now() end

--- Runs fn; a cancellation waits, at most 10 s, until fn is through. For cleaning up.
---@param fn function
---@param ... any
---@return any ...
function M.shield(fn, ...) end

---@return boolean  the running task has been cancelled
function M.cancelled() end

---@return integer  unfinished tasks, the running one included
function M.count() end

---@class e2b_task.Cond
local Cond = {}

---@param seconds? number  default: no limit
---@return boolean woken  false when the time is over
function Cond:wait(seconds) end

---@return boolean woken  whether one was waiting
function Cond:signal() end

--- Wakes all that wait.
function Cond:broadcast() end

---@return e2b_task.Cond
function M.cond() end

return M
