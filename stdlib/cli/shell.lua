-- e2blua shell: a terminal in a sandbox. The local one is set to raw mode, so
-- that every key goes there, and restored on every way out.
local Error = require "e2b.error"
local Sandbox = require "e2b.sandbox"
local box = require "cli.lib.box"
local main = require "cli.lib.main"
local out = require "cli.lib.out"
local process = require "e2b_process"
local task = require "e2b_task"
local terminal = require "e2b_terminal"

local M = {
    summary = "opens a terminal in a sandbox",
    text = "Without an id it is a new sandbox, which ends with the shell. Ctrl-D or exit\n" ..
        "leaves. The exit code is the shell's.",
    example = "e2blua shell i0abc1",
}

-- A new sandbox ends by itself soon after this program could not say that it is
-- still wanted.
local LEASE <const> = 120
local RENEW <const> = 40
-- What programs of the other side may have left switched on: pasting in
-- brackets, application keys, a hidden cursor, colours.
local CALM <const> = "\27[?2004l\27[?1l\27>\27[?25h\27[0m\r\n"

function M.define(p)
    p:argument("id", "The sandbox; default: a new one."):args("?"):argname("<id>")
    p:option("--template", "Make a new sandbox of this template."):argname("<name>")
    p:option("-u --user", "Be this user."):argname("<name>")
    p:option("-c --cwd", "Begin in this folder."):argname("<path>")
    p:option("-e --env", "A variable for the shell; may be given several times.")
        :argname("<name=value>"):count("*")
end

local function renew(sbx)
    while true do
        task.sleep(RENEW)
        pcall(sbx.set_timeout, sbx, LEASE)
    end
end

-- Keys, until the shell has ended or the terminal is closed.
local function type_in(sbx, handle, input)
    while true do
        local bytes, err = input:read()
        if not bytes then
            if err then
                error(err, 0)
            end
            handle:kill()
            return
        end
        local ok, e = pcall(sbx.pty.send_stdin, sbx.pty, handle.pid, bytes)
        if not ok and Error.is(e, "not_found") then
            return
        elseif not ok then
            error(e, 0)
        end
    end
end

local function follow_size(sbx, handle)
    local resizes <close> = Error.check(terminal.resizes())
    while true do
        resizes:wait()
        local cols, rows = terminal.size(0)
        if cols then
            pcall(sbx.pty.resize, sbx.pty, handle.pid, { cols = cols, rows = rows })
        end
    end
end

local function stopper(tasks)
    return setmetatable({}, {
        __close = function()
            for _, t in ipairs(tasks) do
                t:cancel()
            end
        end,
    })
end

-- The remote shell has ended itself, or is killed with whatever ended us.
local function killer(handle, mode)
    return setmetatable({}, {
        __close = function()
            if handle.exit_code == nil then
                mode:restore()
                io.stdout:write(CALM)
                pcall(task.shield, handle.kill, handle)
            end
        end,
    })
end

local function session(sbx, args)
    local cols, rows = terminal.size(0)
    local envs = box.pairs(args.env, "--env")
    envs.TERM = envs.TERM or os.getenv("TERM")
    local mode <close> = Error.check(terminal.raw(0))
    local input <close> = terminal.input(0)
    local handle = sbx.pty:create {
        cols = cols or 80,
        rows = rows or 24,
        user = args.user,
        cwd = args.cwd,
        envs = envs,
        timeout = 0,
        on_data = function(bytes)
            out.write(io.stdout, bytes)
        end,
    }
    local _ <close> = killer(handle, mode)
    local failure
    local typing = task.spawn_quiet(function()
        local ok, err = pcall(type_in, sbx, handle, input)
        if not ok and not task.cancelled() then
            failure = err
            handle:disconnect()
        end
    end)
    local _ <close> = stopper { typing, task.spawn_quiet(follow_size, sbx, handle) }
    local ok, err = pcall(handle.wait, handle)
    if handle.exit_code then
        return handle.exit_code < 0 and 255 or handle.exit_code
    elseif not ok then
        error(failure or err, 0)
    end
    return 0
end

function M.run(args)
    if not process.isatty(0) or not process.isatty(1) then
        main.usage("shell", "shell needs a terminal for its input and output; " ..
            "e2blua exec runs a command without one")
    elseif args.id and args.template then
        main.usage("shell", "an id and --template exclude each other")
    elseif args.id then
        return session(box.connect(args.id), args)
    end
    local sbx <close> = Sandbox.create(args.template, { timeout = LEASE })
    local _ <close> = stopper { task.spawn_quiet(renew, sbx) }
    out.complain("sandbox " .. sbx.sandbox_id .. " is yours until you leave")
    return session(sbx, args)
end

return M
