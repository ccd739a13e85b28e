-- e2blua exec: a command in a sandbox, as if it ran here: its input, output,
-- errors and exit code.
local box = require "cli.lib.box"
local commands = require "e2b.commands"
local fs = require "e2b_fs"
local out = require "cli.lib.out"
local shell = require "e2b.template.shell"
local task = require "e2b_task"
local terminal = require "e2b_terminal"

local M = {
    summary = "runs a command in a sandbox",
    text = "What is piped in becomes its standard input. The exit code is the command's own;\n" ..
        "255 when a signal ended it. One word is a line for the sandbox's shell, several are\n" ..
        "taken as they are. Options of exec stand before the id. The sandbox lives at least\n" ..
        "300 s more.",
    example = "e2blua exec i0abc1 -- ls -l /tmp",
}

local BY_SIGNAL <const> = 255
local WITH_VALUE = {
    ["-u"] = true, ["--user"] = true, ["-c"] = true, ["--cwd"] = true, ["-e"] = true,
    ["--env"] = true,
}

function M.define(p)
    p:argument("id", "The sandbox."):argname("<id>")
    p:argument("command", "The command and its arguments."):args("+"):argname("<command>")
    p:option("-u --user", "Run it as this user."):argname("<name>")
    p:option("-c --cwd", "Run it in this folder."):argname("<path>")
    p:option("-e --env", "A variable for it; may be given several times."):argname("<name=value>")
        :count("*")
end

---All behind the id is the command, whatever it looks like.
---@param words string[]
---@return string[]
function M.prepare(words)
    local i = 1
    while words[i] and words[i]:sub(1, 1) == "-" and words[i] ~= "--" do
        i = i + (WITH_VALUE[words[i]] and 2 or 1)
    end
    if words[i] and words[i] ~= "--" and words[i + 1] and words[i + 1] ~= "--" then
        words = table.move(words, 1, #words, 1, {})
        table.insert(words, i + 1, "--")
    end
    return words
end

-- A terminal or /dev/null is no input for a command elsewhere.
local function piped()
    local stat = fs.stat("/proc/self/fd/0")
    return stat ~= nil and (stat.type == "file" or stat.type == "fifo" or stat.type == "socket")
end

local function feed(handle)
    local input <close> = terminal.input(0)
    while true do
        local bytes, err = input:read()
        if err then
            error(err, 0)
        elseif not bytes then
            break
        elseif not pcall(handle.send_stdin, handle, bytes) then
            return -- it has ended, or whoever waits for it hears why
        end
    end
    pcall(handle.close_stdin, handle)
end

---The line for the sandbox's shell.
---@param words string[]
---@return string
function M.line(words)
    if #words == 1 then
        return words[1]
    end
    local quoted = {}
    for i, word in ipairs(words) do
        quoted[i] = shell.quote(word)
    end
    return table.concat(quoted, " ")
end

-- Whatever ends the wait (Ctrl-C, a closed output) ends the command, too.
local function killer(handle)
    return setmetatable({}, {
        __close = function(_, err)
            if err ~= nil and handle.exit_code == nil then
                pcall(task.shield, handle.kill, handle)
            end
        end,
    })
end

function M.run(args)
    local sbx = box.connect(args.id)
    local stdin = piped()
    local handle = sbx.commands:run(M.line(args.command), {
        background = true,
        stdin = stdin,
        timeout = 0,
        user = args.user,
        cwd = args.cwd,
        envs = box.pairs(args.env, "--env"),
        on_stdout = function(bytes)
            out.write(io.stdout, bytes)
        end,
        on_stderr = function(bytes)
            out.write(io.stderr, bytes)
        end,
    })
    commands.keep_nothing(handle)
    local _ <close> = killer(handle)
    local feeder = stdin and task.spawn_quiet(feed, handle)
    local ok, err = pcall(handle.wait, handle)
    if feeder then
        feeder:cancel()
    end
    if not ok and handle.exit_code == nil then
        error(err, 0)
    elseif handle.exit_code < 0 then
        out.complain("the command was ended by a signal (" .. tostring(handle.error) .. ")")
        return BY_SIGNAL
    end
    return handle.exit_code
end

return M
