-- The sandbox that a run gets: engine, template, sandbox, each as a step.
local Error = require "e2b.error"
local SandboxManager = require "e2b.manager"
local config = require "e2b.config"
local dotenv = require "e2b.dotenv"
local find = require "agent.find"
local id_file = require "e2b.template.id_file"
local text = require "agent.text"

local M = {}

-- Finds the backend; at home this starts the engine and makes the base image.
local function backend(run)
    local step <close> = run.progress:step("engine")
    local client = require "engine.client"
    local before = client.progress
    local _ <close> = setmetatable({}, { __close = function()
        client.progress = before
    end })
    client.progress = function(stage)
        step:note("base image: " .. stage)
    end
    local found = config.resolve {}
    step:done(found.backend == "local" and "at home" or found.api_url)
    return found
end

-- ---- template files ----------------------------------------------------------

local function build(run, name, source, where)
    local Template = require "e2b.template"
    local chunk, wrong = load(source, "@" .. where, "t")
    if not chunk then
        Error.raise("invalid_argument", wrong)
    end
    local template, given = chunk()
    local opts = {} -- those of its build that the file returns beside it
    for option, value in pairs(type(given) == "table" and given or {}) do
        opts[option] = value
    end
    local step <close> = run.progress:step("template " .. name)
    opts.name, opts.alias = name, nil
    opts.on_build_logs = function(entry)
        step:note(text.brief(tostring(entry.message), 40))
    end
    local info = Template.build(template, opts)
    step:done("")
    return info.template_id or name
end

-- Name or id for Sandbox.create. Building an unchanged template is felt as
-- instant, so the file always wins over what was built before.
local function template_of(run, found, name)
    if not name then
        local project = dotenv.project()
        local id = project and id_file.read(project .. "/" .. id_file.NAME, found)
        return id or "base", id
    end
    local file = name:match("([^/]+)%.lua$")
    local source, where = find.read(file and name or name .. ".lua", "templates")
    if source then
        return build(run, file or name, source, where)
    elseif file then
        Error.raise("file_not_found", ("there is no template file %s; looked for %s"):format(name,
            where))
    end
    return name
end

-- ---- the sandbox -------------------------------------------------------------

-- Tasks have no way out unless they name hosts; the manager sees to that.
local function manager_of(run, o, template)
    return SandboxManager(template, {
        timeout = o.timeout,
        envs = o.env_vars,
        allow_out = o.allow_out,
        on_warning = function(warning)
            run.progress:line("warning: " .. warning.message)
        end,
        on_retry = function(err, _, pause)
            run.step:note(("%s; again in %.1f s"):format(text.brief(err.message, 30), pause))
        end,
    })
end

-- A note that names what is not there any more says how to come by it anew.
local function explain(err, id)
    if id and Error.is(err) and err.status == 404 then
        err.message = ("the template %s, which .template_id names for this backend, is gone")
            :format(id)
        err.remedy = "build it anew: e2blua build_template.lua FILE"
    end
    return err
end

local function workdir_of(sandbox, o)
    if o.workdir then
        sandbox.files:make_dir(o.workdir)
        return o.workdir
    end
    return (sandbox.commands:run("pwd").stdout:gsub("\n$", ""))
end

---Makes the sandbox of a run; sets run.sandbox, run.workdir and run.ends_at (seconds since 1970).
---@param run table progress
---@param o table checked options: template, timeout, env_vars, allow_out, workdir
---@return e2b.SandboxManager manager whose sandbox it is; a <close> variable ends it
---Raises what the engine did; a template id that is gone says how to build it anew.
function M.sandbox(run, o)
    local found = backend(run)
    local template, noted = template_of(run, found, o.template)
    local step <close> = run.progress:step("sandbox")
    run.step = step
    local manager = manager_of(run, o, template)
    local ok, sandbox = pcall(manager.start, manager)
    if not ok then
        error(explain(sandbox, noted), 0)
    end
    run.sandbox, run.ends_at = sandbox, os.time() + math.floor(o.timeout)
    local good, workdir = pcall(workdir_of, sandbox, o)
    if not good then
        pcall(manager.close, manager)
        error(workdir, 0)
    end
    run.workdir = workdir
    step:done(sandbox.sandbox_id)
    return manager
end

---Lets the sandbox of a run live on.
---@param manager e2b.SandboxManager
function M.release(manager)
    manager:release()
end

return M
