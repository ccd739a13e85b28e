-- What each instruction of a template does to the layers so far. Source:
-- template reference, sections 4.2 to 4.4.
local Error = require "e2b.error"
local envd = require "engine.envd"

local M = {}

local STEP_SECONDS <const> = 3600
local USUAL_PATH <const> = ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
local STAGE <const> = "/.e2b-copy"
local TREE <const> = STAGE .. "/tree"

---One word for a shell, as Python's shlex.quote makes it.
---@param text string
---@return string
local function quote(text)
    if text ~= "" and not text:find("[^%w_@%%+=:,./-]") then
        return text
    end
    return "'" .. text:gsub("'", "'\"'\"'") .. "'"
end

local function script(text, ...)
    local words = { "/bin/bash", "-c", quote(text), "step" }
    for _, word in ipairs { ... } do
        words[#words + 1] = quote(word)
    end
    return table.concat(words, " ")
end

---The environment of a RUN.
---@param env table<string, string>
---@return table<string, string>
function M.environment(env)
    local out = {}
    for name, value in pairs(env or {}) do
        out[name] = value
    end
    if out.PATH then
        out.PATH = out.PATH .. USUAL_PATH
    end
    return out
end

local function must(step, result, what)
    if result.exit_code ~= 0 then
        Error.raise("build", ("%s: %s")
            :format(what, result.error or "exit status " .. result.exit_code),
            { result = { exit_code = result.exit_code }, op = step.type })
    end
end

-- Runs a script of ours as root; returns what it wrote.
local function as_root(step, run, command, what, cwd)
    local out = {}
    local result = run({ command = command, user = "root", cwd = cwd, timeout = STEP_SECONDS },
        function(stream, bytes)
            if stream == "stdout" then
                out[#out + 1] = bytes
                return true
            end
        end)
    must(step, result, what)
    return table.concat(out)
end

local HANDLERS = {}

function HANDLERS.RUN(step, context, run)
    local command = step.args[1]
    local result = run({
        command = command,
        user = step.args[2] ~= "" and step.args[2] or context.user,
        cwd = context.workdir,
        envs = M.environment(context.env),
        timeout = STEP_SECONDS,
    })
    must(step, result, ("failed to run command '%s'"):format(command))
end

local WORKDIR <const> = [[
set -eu
path=$1 user=$2 above=$1 made=
while [ ! -e "$above" ]; do made=$above; above=$(dirname -- "$above"); done
mkdir -p -- "$path"
[ -z "$made" ] || chown -R -- "$user:" "$made"
cd -- "$path"
pwd
]]

function HANDLERS.WORKDIR(step, context, run)
    local path = step.args[1]
    if path:sub(1, 1) ~= "/" then
        path = (context.workdir or "") .. "/" .. path
    end
    local out = as_root(step, run, script(WORKDIR, path, context.user),
        ("failed to make the working directory '%s'"):format(path))
    context.workdir = out:match("([^\n]*)\n?$")
end

local USER <const> = [[
set -eu
id -u -- "$1" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash -- "$1"
]]

function HANDLERS.USER(step, context, run)
    as_root(step, run, script(USER, step.args[1]),
        ("failed to set the user '%s'"):format(step.args[1]))
    context.user = step.args[1]
end

-- "$NAME" and "${NAME}" of a value are root's own; the rest stays as it is.
local function expansion(value)
    return 'printf %s "' .. value:gsub('[\\"`]', "\\%0"):gsub("%$%(", "\\$(") .. '"'
end

function HANDLERS.ENV(step, context, run)
    local env = {}
    for name, value in pairs(context.env or {}) do
        env[name] = value
    end
    for i = 1, #step.args, 2 do
        local name, value = step.args[i], step.args[i + 1]
        if value:find("$", 1, true) then
            value = as_root(step, run, expansion(value),
                ("failed to expand the value of '%s'"):format(name))
        end
        env[name] = value
    end
    context.env = env
end

-- The part of a source in front of its first glob.
local function static_prefix(src)
    local parts = {}
    for part in src:gmatch("[^/]+") do
        if part:find("[*?%[{]") then
            break
        end
        if part ~= "." then
            parts[#parts + 1] = part
        end
    end
    return table.concat(parts, "/")
end

local function source_in(tree, src)
    local prefix = static_prefix(src)
    return prefix == "" and tree or tree .. "/" .. prefix
end

local UNPACK <const> = [[set -eu; cd "$1"; mkdir tree; tar -C tree -xpf archive; rm archive]]

local COPY <const> = [[
set -eu
src=$1 target=$2 owner=$3 mode=$4 folder=$5 user=$6 tree=$7 named=$8
# What some clients take for a pattern others take for a name.
if [ -e "$tree/$named" ] || [ -L "$tree/$named" ]; then
    src=$tree/${named%/}
fi
case $target in
/*) ;;
*) [ -n "$folder" ] || folder=$(getent passwd "$user" | cut -d: -f6)
   target=${folder%/}/$target ;;
esac
# "name:" is the name's own group; a bare number may have none.
case $owner in
*:*) ;;
*[!0-9]*) owner=$owner: ;;
*) owner=$owner:$owner ;;
esac
if [ -L "$src" ]; then
    mkdir -p -- "$(dirname -- "$target")"
    chown -h -- "$owner" "$src"
    mv -f -- "$src" "$target"
elif [ -f "$src" ]; then
    chown -- "$owner" "$src"
    [ -z "$mode" ] || chmod -- "$mode" "$src"
    case $target in
    */) mkdir -p -- "$target" ;;
    *) mkdir -p -- "$(dirname -- "$target")" ;;
    esac
    mv -f -- "$src" "$target"
elif [ -d "$src" ]; then
    chown -R -- "$owner" "$src"
    [ -z "$mode" ] || chmod -R -- "$mode" "$src"
    if [ ! -e "$target" ]; then
        mkdir -p -- "$(dirname -- "$target")"
        mkdir -- "$target"
        chown -- "$owner" "$target"
    fi
    tar -C "$src" -cf - . | tar -C "$target" -xpf - --keep-directory-symlink --no-overwrite-dir
else
    echo "Error: source path does not exist: $named" >&2
    exit 1
fi
]]

function HANDLERS.COPY(step, context, run, box)
    local src, dest, owner, mode = table.unpack(step.args)
    owner = owner and owner ~= "" and owner or context.user
    envd.put(box.target, STAGE .. "/archive", step.archive)
    local ok, err = pcall(as_root, step, run, script(UNPACK, STAGE),
        "failed to unpack the files of '" .. src .. "'")
    if not ok then
        if Error.is(err, "build") then -- else it would be taken for good again
            os.remove(step.archive)
            err.message = err.message .. "; the upload was dropped, build again to send it anew"
        end
        error(err, 0)
    end
    as_root(step, run, script(COPY, source_in(TREE, src), dest, owner, mode or "",
        context.workdir or "", context.user, TREE, src), "failed to move files in sandbox")
    as_root(step, run, script([[rm -rf -- "$1"]], STAGE), "failed to clean up")
end

HANDLERS.ADD = HANDLERS.COPY
HANDLERS.ARG = HANDLERS.ENV

-- Arguments an instruction needs: at least, or a check.
local function check_args(step)
    local args = step.args
    for i, arg in ipairs(args) do
        if type(arg) ~= "string" then
            Error.raise("build", ("argument %d of %s is not a string"):format(i, step.type))
        end
    end
    local kind = step.type
    if (kind == "COPY" or kind == "ADD") and #args < 2 then
        Error.raise("build", "COPY requires a local path and a container path argument")
    elseif (kind == "ENV" or kind == "ARG") and (#args == 0 or #args % 2 ~= 0) then
        Error.raise("build", "ENV requires both a key and value arguments")
    elseif (kind == "RUN" or kind == "WORKDIR" or kind == "USER") and (args[1] or "") == "" then
        Error.raise("build", kind .. " requires an argument")
    end
end

---Checks an instruction as the client sent it.
---@param raw table {type, args, filesHash, force}
---@return {type: string, args: string[], files_hash: string|nil, force: boolean}
function M.parse(raw)
    local step = {
        type = tostring(raw.type):upper(),
        args = type(raw.args) == "table" and raw.args or {},
        files_hash = type(raw.filesHash) == "string" and raw.filesHash or nil,
        force = raw.force == true,
    }
    if not HANDLERS[step.type] then
        Error.raise("build", ("command type %s is not implemented"):format(tostring(raw.type)))
    end
    check_args(step)
    if (step.type == "COPY" or step.type == "ADD") and not step.files_hash then
        Error.raise("build", "COPY requires files hash to be set")
    end
    return step
end

---Whether the instruction needs no sandbox: it only changes the context.
---@param step table
---@return boolean
function M.is_context_only(step)
    if step.type ~= "ENV" and step.type ~= "ARG" then
        return false
    end
    for i = 2, #step.args, 2 do
        if step.args[i]:find("$", 1, true) then
            return false
        end
    end
    return true
end

---Executes the instruction; changes context.
---@param step table
---@param context {user: string, workdir: string|nil, env: table}
---@param run fun(spec: table, on_output?: function): {exit_code: integer, error: string|nil}
---@param box? table
function M.execute(step, context, run, box)
    HANDLERS[step.type](step, context, run, box)
end

return M
