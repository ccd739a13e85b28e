-- Ready commands: what says that a template's start command has come up.
-- Source: e2b Python SDK 2.63, template/readycmd.py.
local Error = require "e2b.error"
local options = require "e2b.options"
local shell = require "e2b.template.shell"

local M = {}

---@class e2b.ReadyCmd a command that exits with 0 once all is up
local ReadyCmd = {}
ReadyCmd.__index = ReadyCmd
ReadyCmd.__name = "e2b.ReadyCmd"

---@return string the command
function ReadyCmd:get_cmd()
    return self._cmd
end

---@param cmd string
---@return e2b.ReadyCmd
function M.ReadyCmd(cmd)
    options.value("ReadyCmd", "cmd", cmd, "text")
    return setmetatable({ _cmd = cmd }, ReadyCmd)
end

---The command of a ready value: a ReadyCmd or a string.
---@param op string
---@param ready any
---@return string
function M.command(op, ready)
    if getmetatable(ready) == ReadyCmd then
        return ready._cmd
    elseif type(ready) == "string" and ready ~= "" then
        return ready
    end
    Error.raise("invalid_argument", ("%s: ready must be a command, or one of wait_for_port," ..
        " wait_for_url, wait_for_process, wait_for_file, wait_for_timeout, not %s"):format(
        op, type(ready) == "string" and "an empty string" or type(ready)), { op = op })
end

---Something listens on the port.
---@param port integer 1 to 65535
---@return e2b.ReadyCmd
function M.wait_for_port(port)
    options.value("wait_for_port", "port", port, "count")
    if port > 65535 then
        Error.raise("invalid_argument", ("wait_for_port: port must be at most 65535, not %d")
            :format(port))
    end
    return M.ReadyCmd(('[ -n "$(ss -Htuln sport = :%d)" ]'):format(port))
end

---The URL answers with that status.
---@param url string
---@param status_code? integer default 200
---@return e2b.ReadyCmd
function M.wait_for_url(url, status_code)
    options.value("wait_for_url", "url", url, "text")
    options.value("wait_for_url", "status_code", status_code or 200, "count")
    return M.ReadyCmd(('curl -s -o /dev/null -w "%%{http_code}" %s | grep -q "%d"'):format(
        shell.quote(url), status_code or 200))
end

---A process of that name runs.
---@param process_name string
---@return e2b.ReadyCmd
function M.wait_for_process(process_name)
    options.value("wait_for_process", "process_name", process_name, "text")
    return M.ReadyCmd(("pgrep %s > /dev/null"):format(shell.quote(process_name)))
end

---The file is there.
---@param filename string
---@return e2b.ReadyCmd
function M.wait_for_file(filename)
    options.value("wait_for_file", "filename", filename, "text")
    return M.ReadyCmd(("[ -f %s ]"):format(shell.quote(filename)))
end

---Time has passed. On the embedded engine this is a wait at build only.
---@param timeout integer milliseconds, as in the E2B SDKs; at least a second is waited
---@return e2b.ReadyCmd
function M.wait_for_timeout(timeout)
    options.value("wait_for_timeout", "timeout", timeout, "seconds")
    return M.ReadyCmd(("sleep %d"):format(math.max(1, timeout // 1000 | 0)))
end

return M
