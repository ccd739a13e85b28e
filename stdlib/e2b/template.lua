-- Template: what a sandbox begins with, as a list of instructions. Describing
-- one does nothing; Template.build sends it. Names, defaults and meanings are
-- those of the E2B Python SDK 2.63.
local json = require "e2b_json"
local fs = require "e2b_fs"
local Error = require "e2b.error"
local options = require "e2b.options"
local build = require "e2b.template.build"
local fileset = require "e2b.template.fileset"
local logger = require "e2b.template.logger"
local position = require "e2b.template.position"
local ready = require "e2b.template.ready"
local shell = require "e2b.template.shell"

local BASE_IMAGE <const> = "e2bdev/base"

---@class e2b.template.Step
---@field type "COPY"|"RUN"|"ENV"|"WORKDIR"|"USER"
---@field args string[]
---@field force boolean
---@field call integer number of the method call it comes from
---@field copy? table src, dest, force_upload, resolve_symlinks, gzip

---@class e2b.Template
---@field base_image string|nil
---@field base_template string|nil
---@field registry table|nil
---@field steps e2b.template.Step[]
---@field calls e2b.template.Call[] of its methods, for errors
---@field start_cmd string|nil
---@field ready_cmd string|nil
local Template = {}
Template.__index = Template
Template.__name = "e2b.Template"

-- The instance, with the call noted; or an error that says how to call it.
local function own(op, self)
    if getmetatable(self) ~= Template then
        Error.raise("invalid_argument", ("Template.%s was called without its template; use ':'," ..
            " as in template:%s(...)"):format(op, op), { op = "Template." .. op })
    end
    self.calls[#self.calls + 1] = position.here(op)
    return self
end

-- Checked arguments of a method: positional ones by name among the options.
local function arguments(op, params, spec, ...)
    return options.arguments("Template." .. op, params, spec, ...)
end

local function words(op, name, v)
    if type(v) == "string" then
        v = { v }
    end
    if #v == 0 then
        Error.raise("invalid_argument", ("Template.%s: %s is an empty list"):format(op, name))
    end
    for i, word in ipairs(v) do
        options.value("Template." .. op, ("%s[%d]"):format(name, i), word, "text")
    end
    return v
end

local function push(self, type_, args, copy)
    self.steps[#self.steps + 1] = {
        type = type_,
        args = args,
        force = self._force_next or copy and copy.force_upload or false,
        call = #self.calls,
        copy = copy,
    }
    return self
end

local function run(self, command, user)
    return push(self, "RUN", { command, user })
end

-- ---- what it begins with -----------------------------------------------------

local function from(self, image, base_template)
    self.base_image, self.base_template = image, base_template
    self.from_call = #self.calls
    -- skip_cache before it is about everything.
    if self._force_next and #self.steps == 0 then
        self.force = true
    end
    return self
end

---Begins with E2B's base: Debian 12 with Python, Node, git and a compiler.
---@return e2b.Template self
function Template:from_base_image()
    return from(own("from_base_image", self), BASE_IMAGE)
end

---Begins with an image of a registry.
---@param image string
---@param opts? {username?: string, password?: string} both or none
---@return e2b.Template self
function Template:from_image(image, opts)
    own("from_image", self)
    local o = arguments("from_image", { { "image", "text" } },
        { username = "text", password = "text" }, image, opts)
    if (o.username == nil) ~= (o.password == nil) then
        Error.raise("invalid_argument",
            "Both username and password are required when providing registry credentials")
    end
    if o.username then
        self.registry = { type = "registry", username = o.username, password = o.password }
    end
    return from(self, o.image)
end

-- Methods that name an image by its variant: method -> image, default variant.
local VARIANTS = {
    from_debian_image = { "debian", "stable" },
    from_ubuntu_image = { "ubuntu", "latest" },
    from_fedora_image = { "fedora", "44" },
    from_alpine_image = { "alpine", "3.24" },
    from_arch_image = { "archlinux", "latest" },
    from_python_image = { "python", "3" },
    from_node_image = { "node", "lts" },
    from_bun_image = { "oven/bun", "latest" },
}
for name, image in pairs(VARIANTS) do
    Template[name] = function(self, variant)
        own(name, self)
        options.value("Template." .. name, "variant", variant or image[2], "text")
        return from(self, image[1] .. ":" .. (variant or image[2]))
    end
end

---Begins with a template that was built before, with its user, folder,
---variables and start command.
---@param template string name, name:tag or id
---@return e2b.Template self
function Template:from_template(template)
    own("from_template", self)
    options.value("Template.from_template", "template", template, "text")
    return from(self, nil, template)
end

---Before a from_ method: nothing is taken from the cache; after it: the
---instructions that follow are not.
---@return e2b.Template self
function Template:skip_cache()
    own("skip_cache", self)._force_next = true
    return self
end

-- ---- files -------------------------------------------------------------------

local function check_source(src)
    if src:sub(1, 1) == "/" then
        Error.raise("template", ('Invalid source path "%s": absolute paths are not allowed.' ..
            " Use a relative path within the context directory."):format(src))
    end
    local depth = 0
    for name in src:gmatch("[^/]+") do
        depth = depth + (name == ".." and -1 or name == "." and 0 or 1)
        if depth < 0 then
            Error.raise("template", ('Invalid source path "%s": path escapes the context' ..
                " directory. The path must stay within the context directory."):format(src))
        end
    end
end

local COPY_OPTIONS = {
    user = "text",
    mode = "integer",
    force_upload = "boolean",
    resolve_symlinks = "boolean",
    gzip = "boolean",
}

local function mode_text(op, mode)
    if mode == nil then
        return ""
    elseif mode < 0 or mode > 4095 then
        Error.raise("invalid_argument",
            ("Template.%s: mode must be a file mode such as tonumber(\"755\", 8), not %d"):format(
                op, mode))
    end
    return ("%04o"):format(mode)
end

local function add_copies(self, op, o)
    for _, source in ipairs(words(op, "src", o.src)) do
        check_source(source)
        push(self, "COPY", { source, o.dest, o.user or "", mode_text(op, o.mode) }, {
            src = source,
            dest = o.dest,
            force_upload = o.force_upload,
            resolve_symlinks = o.resolve_symlinks,
            gzip = o.gzip ~= false,
        })
    end
    return self
end

---Copies files into the template. Paths are relative to the folder of the file
---that made the template; `*`, `?`, `[...]` and `**` are patterns. Of a folder
---the contents are copied.
---@param src string|string[]
---@param dest string a folder when it ends in '/'
---@param opts? {user?: string, mode?: integer, force_upload?: boolean,
--- resolve_symlinks?: boolean, gzip?: boolean} mode is a number: tonumber("755", 8)
---@return e2b.Template self
function Template:copy(src, dest, opts)
    own("copy", self)
    return add_copies(self, "copy", arguments("copy",
        { { "src", "text|table" }, { "dest", "text" } }, COPY_OPTIONS, src, dest, opts))
end

---The same as copy.
Template.copy_files = Template.copy

---Several copies at once.
---@param items table[] each {src=, dest=} and the options of copy
---@return e2b.Template self
function Template:copy_items(items)
    own("copy_items", self)
    options.value("Template.copy_items", "items", items, "table")
    local spec = options.spec(COPY_OPTIONS, { src = "text|table", dest = "text" })
    for _, item in ipairs(items) do
        local o = options.check("Template.copy_items", item, spec)
        options.value("Template.copy_items", "src", o.src, spec.src)
        options.value("Template.copy_items", "dest", o.dest, spec.dest)
        add_copies(self, "copy_items", o)
    end
    return self
end

---@param path string|string[]
---@param opts? {force?: boolean, recursive?: boolean, user?: string}
---@return e2b.Template self
function Template:remove(path, opts)
    own("remove", self)
    local o = arguments("remove", { { "path", "text|table" } },
        { force = "boolean", recursive = "boolean", user = "text" }, path, opts)
    return run(self, "rm" .. (o.recursive and " -r" or "") .. (o.force and " -f" or "") .. " " ..
        shell.quote_all(words("remove", "path", o.path)), o.user)
end

---@param src string
---@param dest string
---@param opts? {force?: boolean, user?: string}
---@return e2b.Template self
function Template:rename(src, dest, opts)
    own("rename", self)
    local o = arguments("rename", { { "src", "text" }, { "dest", "text" } },
        { force = "boolean", user = "text" }, src, dest, opts)
    return run(self, ("mv %s %s%s"):format(shell.quote(o.src), shell.quote(o.dest),
        o.force and " -f" or ""), o.user)
end

---@param path string|string[]
---@param opts? {mode?: integer, user?: string}
---@return e2b.Template self
function Template:make_dir(path, opts)
    own("make_dir", self)
    local o = arguments("make_dir", { { "path", "text|table" } },
        { mode = "integer", user = "text" }, path, opts)
    local mode = o.mode and " -m " .. mode_text("make_dir", o.mode) or ""
    return run(self, "mkdir -p" .. mode .. " " ..
        shell.quote_all(words("make_dir", "path", o.path)), o.user)
end

---@param src string what the link points to
---@param dest string the link
---@param opts? {user?: string, force?: boolean}
---@return e2b.Template self
function Template:make_symlink(src, dest, opts)
    own("make_symlink", self)
    local o = arguments("make_symlink", { { "src", "text" }, { "dest", "text" } },
        { force = "boolean", user = "text" }, src, dest, opts)
    return run(self, ("ln -s%s %s %s"):format(o.force and " -f" or "", shell.quote(o.src),
        shell.quote(o.dest)), o.user)
end

-- ---- commands and settings ---------------------------------------------------

---Runs a command, or several joined by &&, in a login shell.
---@param command string|string[]
---@param opts? {user?: string} default: the current user
---@return e2b.Template self
function Template:run_cmd(command, opts)
    own("run_cmd", self)
    local o = arguments("run_cmd", { { "command", "text|table" } }, { user = "text" }, command,
        opts)
    return run(self, table.concat(words("run_cmd", "command", o.command), " && "), o.user)
end

---The same as run_cmd.
Template.run_commands = Template.run_cmd

---The folder in which the following commands and the sandboxes' begin.
---@param workdir string made when missing
---@return e2b.Template self
function Template:set_workdir(workdir)
    own("set_workdir", self)
    options.value("Template.set_workdir", "workdir", workdir, "text")
    return push(self, "WORKDIR", { workdir })
end

---Who the following commands and the sandboxes' run as.
---@param user string made when missing
---@return e2b.Template self
function Template:set_user(user)
    own("set_user", self)
    options.value("Template.set_user", "user", user, "text")
    return push(self, "USER", { user })
end

---Variables of the following commands and of the start command. In a value
---$NAME is expanded by the server.
---@param envs table<string, string>
---@return e2b.Template self
function Template:set_envs(envs)
    own("set_envs", self)
    options.value("Template.set_envs", "envs", envs, "map")
    local names, args = {}, {}
    for name in pairs(envs) do
        names[#names + 1] = name
    end
    -- A table has no order; the same variables must give the same layer.
    table.sort(names)
    for _, name in ipairs(names) do
        args[#args + 1] = name
        args[#args + 1] = envs[name]
    end
    return #args > 0 and push(self, "ENV", args) or self
end

-- ---- packages ----------------------------------------------------------------

-- "cmd flags packages": the names are not quoted, as in the E2B SDKs, since
-- they may carry versions and extras.
local function install(op, command, packages, default)
    if packages == nil then
        return command .. (default and " " .. default or "")
    end
    return command .. " " .. table.concat(words(op, "packages", packages), " ")
end

---@param packages? string|string[] nil: the project in the current folder
---@param opts? {g?: boolean} g = false: only for the current user
---@return e2b.Template self
function Template:pip_install(packages, opts)
    own("pip_install", self)
    local o = options.check("Template.pip_install", opts, { g = "boolean" })
    local everywhere = o.g ~= false
    return run(self, install("pip_install", "pip install" .. (everywhere and "" or " --user"),
        packages, "."), everywhere and "root" or nil)
end

local function node_install(self, op, tool, dev_flag, packages, opts)
    local o = options.check("Template." .. op, opts, { g = "boolean", dev = "boolean" })
    return run(self, install(op, tool .. " install" .. (o.g and " -g" or "") ..
        (o.dev and " " .. dev_flag or ""), packages), o.g and "root" or nil)
end

---@param packages? string|string[] nil: those of package.json in the current folder
---@param opts? {g?: boolean, dev?: boolean} g = true: for everybody
---@return e2b.Template self
function Template:npm_install(packages, opts)
    return node_install(own("npm_install", self), "npm_install", "npm", "--save-dev", packages,
        opts)
end

---@param packages? string|string[]
---@param opts? {g?: boolean, dev?: boolean}
---@return e2b.Template self
function Template:bun_install(packages, opts)
    return node_install(own("bun_install", self), "bun_install", "bun", "--dev", packages, opts)
end

---@param packages string|string[]
---@param opts? {no_install_recommends?: boolean, fix_missing?: boolean}
---@return e2b.Template self
function Template:apt_install(packages, opts)
    own("apt_install", self)
    local o = arguments("apt_install", { { "packages", "text|table" } },
        { no_install_recommends = "boolean", fix_missing = "boolean" }, packages, opts)
    return run(self, "apt-get update && DEBIAN_FRONTEND=noninteractive" ..
        " DEBCONF_NOWARNINGS=yes apt-get install -y " ..
        (o.no_install_recommends and "--no-install-recommends " or "") ..
        (o.fix_missing and "--fix-missing " or "") ..
        table.concat(words("apt_install", "packages", o.packages), " "), "root")
end

---@param url string
---@param path? string
---@param opts? {branch?: string, depth?: integer, user?: string}
---@return e2b.Template self
function Template:git_clone(url, path, opts)
    own("git_clone", self)
    local o = arguments("git_clone", { { "url", "text" }, { "path", "text", true } },
        { branch = "text", depth = "count", user = "text" }, url, path, opts)
    local parts = { "git clone", shell.quote(o.url) }
    if o.branch then
        parts[#parts + 1] = ("--branch %s --single-branch"):format(shell.quote(o.branch))
    end
    if o.depth then
        parts[#parts + 1] = "--depth " .. o.depth
    end
    parts[#parts + 1] = o.path and shell.quote(o.path)
    return run(self, table.concat(parts, " "), o.user)
end

-- ---- the end -----------------------------------------------------------------

---What every sandbox of the template starts with, and what says that it is up.
---@param start_cmd string
---@param ready_cmd string|e2b.ReadyCmd for example wait_for_port(3000)
---@return e2b.Template self
function Template:set_start_cmd(start_cmd, ready_cmd)
    own("set_start_cmd", self)
    options.value("Template.set_start_cmd", "start_cmd", start_cmd, "text")
    self.ready_cmd = ready.command("Template.set_start_cmd", ready_cmd)
    self.start_cmd = start_cmd
    self.end_call = #self.calls
    return self
end

---What says that a sandbox is up, without a start command of its own.
---@param ready_cmd string|e2b.ReadyCmd
---@return e2b.Template self
function Template:set_ready_cmd(ready_cmd)
    own("set_ready_cmd", self)
    self.ready_cmd = ready.command("Template.set_ready_cmd", ready_cmd)
    self.end_call = #self.calls
    return self
end

-- ---- the class ---------------------------------------------------------------

-- The context folder, absolute.
local function context_of(template)
    return Error.check(fs.realpath(template.context))
end

---The build request, hashes included. sets: the file set of each COPY step by
---its number.
---@param template e2b.Template
---@return table request, table<integer, e2b.template.FileSet> sets
local function request_of(template)
    local steps, sets, rules = json.array {}, {}, nil
    for i, step in ipairs(template.steps) do
        local doc = { type = step.type, args = json.array(step.args), force = step.force }
        if step.copy then
            local context = context_of(template)
            rules = rules or fileset.rules(context, template.ignore)
            local ok, set = pcall(fileset.of, context, rules, step.copy)
            if not ok then
                if Error.is(set) then
                    set.where = position.resolve(template.calls, step.call) or set.where
                end
                error(set, 0)
            end
            sets[i] = set
            doc.filesHash = set.hash
            doc.forceUpload = step.copy.force_upload and true or nil
        end
        steps[i] = doc
    end
    return {
        fromImage = template.base_image,
        fromTemplate = template.base_template,
        fromImageRegistry = template.registry,
        force = template.force,
        steps = steps,
        startCmd = template.start_cmd,
        readyCmd = template.ready_cmd,
    }, sets
end

local function template_argument(op, template)
    if getmetatable(template) ~= Template then
        Error.raise("invalid_argument", ("%s: the first argument must be a template, not %s")
            :format(op, template == nil and "nothing" or "a " .. type(template)),
            { op = op, remedy = "make one with Template()" })
    end
end

---The build request as JSON.
---@param template e2b.Template
---@return string
function Template.to_json(template)
    template_argument("Template.to_json", template)
    return json.encode((request_of(template)), { pretty = true })
end

---The template as a Dockerfile; users of commands and the ready command are
---lost. kind template when it is based on another template.
---@param template e2b.Template
---@return string
function Template.to_dockerfile(template)
    template_argument("Template.to_dockerfile", template)
    return require("e2b.template.dockerfile").of(template)
end

---Builds the template and waits until it is ready. A failing step raises kind
---build: the error names the step, its line in the script (where), its exit
---code (exit_code) and the last lines of its output (output).
---@param template e2b.Template
---@param name string|table the name, or the options with name or alias
---@param opts? table tags, cpu_count (2), memory_mb (1024), min_free_disk_mb (at home: what its
--- sandboxes may write; 0 or left out: the server's default), skip_cache, on_build_logs, and the
--- options of the API
---@return e2b.BuildInfo
function Template.build(template, name, opts)
    template_argument("Template.build", template)
    return build.run("Template.build", template, request_of, name, opts)
end

---As build, but returns once the build has begun.
---@param template e2b.Template
---@param name string|table
---@param opts? table
---@return e2b.BuildInfo for get_build_status
function Template.build_in_background(template, name, opts)
    template_argument("Template.build_in_background", template)
    return build.start("Template.build_in_background", template, request_of, name, opts)
end

---How far a build is.
---@param build_info e2b.BuildInfo
---@param opts? table logs_offset (0) and the options of the API
---@return e2b.BuildStatus
function Template.get_build_status(build_info, opts)
    return build.status(build_info, opts)
end

---Whether a template of that name exists (also one that belongs to others).
---@param name string
---@param opts? table options of the API
---@return boolean
function Template.exists(name, opts)
    return build.exists(name, opts)
end

---The same as exists.
Template.alias_exists = Template.exists

---Points tags to a build.
---@param target_name string name, name:tag or name:<build id>
---@param tags string|string[]
---@param opts? table options of the API
---@return {build_id: string, tags: string[]}
function Template.assign_tags(target_name, tags, opts)
    return build.assign_tags(target_name, tags, opts)
end

---Takes tags away.
---@param name string
---@param tags string|string[]
---@param opts? table options of the API
function Template.remove_tags(name, tags, opts)
    build.remove_tags(name, tags, opts)
end

---@param name string name or id
---@param opts? table options of the API
---@return {tag: string, build_id: string, created_at: integer}[]
function Template.get_tags(name, opts)
    return build.get_tags(name, opts)
end

-- So that `local Template = require "e2b.template"` is enough for a template.
Template.ReadyCmd = ready.ReadyCmd
Template.wait_for_port = ready.wait_for_port
Template.wait_for_url = ready.wait_for_url
Template.wait_for_process = ready.wait_for_process
Template.wait_for_file = ready.wait_for_file
Template.wait_for_timeout = ready.wait_for_timeout
Template.default_build_logger = logger.default_build_logger

---Whether a value is a template.
---@param v any
---@return boolean
function Template.is_template(v)
    return getmetatable(v) == Template
end

local function ignore_patterns(patterns)
    for i, pattern in ipairs(patterns or {}) do
        options.value("Template", ("file_ignore_patterns[%d]"):format(i), pattern, "text")
    end
    return patterns or {}
end

return setmetatable(Template, {
    ---A new template, from E2B's base image until a from_ method says otherwise.
    ---@param opts? {file_context_path?: string, file_ignore_patterns?: string[]} the
    --- folder that paths of copy are relative to (default: that of the calling file)
    ---@return e2b.Template
    __call = function(_, opts)
        local o = options.check("Template", opts,
            { file_context_path = "text", file_ignore_patterns = "table" })
        local template = setmetatable({
            base_image = BASE_IMAGE,
            steps = {},
            calls = { position.here("") },
            force = false,
            context = o.file_context_path or position.folder() or ".",
            ignore = ignore_patterns(o.file_ignore_patterns),
        }, Template)
        -- A carried template has no folder on disk.
        if not o.file_context_path and not fs.stat(template.context) then
            template.context = "."
        end
        return template
    end,
})
