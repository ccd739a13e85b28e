-- require "e2b": the module of the SDK. Its parts are loaded when first touched.
local task = require "e2b.task"

---@class e2b
---@field Sandbox e2b.Sandbox
---@field SandboxManager fun(template?: string, opts?: table): e2b.SandboxManager
---@field Template e2b.Template
---@field wait_for_port fun(port: integer): e2b.ReadyCmd
---@field wait_for_url fun(url: string, status_code?: integer): e2b.ReadyCmd
---@field wait_for_process fun(process_name: string): e2b.ReadyCmd
---@field wait_for_file fun(filename: string): e2b.ReadyCmd
---@field wait_for_timeout fun(timeout: integer): e2b.ReadyCmd
---@field ReadyCmd fun(cmd: string): e2b.ReadyCmd
---@field default_build_logger fun(opts?: table): fun(entry: e2b.LogEntry)
---@field agent any the module agent
---@field http any e2b.http
---@field json any e2b.json
---@field Error e2b.Error
---@field spawn function e2b.task
---@field gather function
---@field parallel function
---@field race function
---@field sleep function
---@field timeout function
---@field now function
---@field ALL_TRAFFIC string
local M = {
    spawn = task.spawn,
    gather = task.gather,
    parallel = task.parallel,
    race = task.race,
    sleep = task.sleep,
    timeout = task.timeout,
    now = task.now,
    Error = require "e2b.error",
}

---Loads a .env file; see e2b.dotenv. That of the project is loaded by itself.
---@param path? string
---@return string|nil file
function M.load_dotenv(path)
    return require("e2b.dotenv").load(path)
end

---A variable of the environment, or else of the .env files.
---@param name string
---@param default? any
---@return any
function M.getenv(name, default)
    return require("e2b.dotenv").getenv(name, default)
end

local PARTS = {
    Sandbox = "e2b.sandbox",
    SandboxManager = "e2b.manager",
    Template = "e2b.template",
    agent = "agent",
    http = "e2b.http",
    json = "e2b.json",
}

-- What templates are written with.
local OF_TEMPLATE = {
    wait_for_port = true,
    wait_for_url = true,
    wait_for_process = true,
    wait_for_file = true,
    wait_for_timeout = true,
    ReadyCmd = true,
    default_build_logger = true,
}

local function lookup(_, name)
    local value
    if OF_TEMPLATE[name] then
        value = require("e2b.template")[name]
    elseif PARTS[name] then
        value = require(PARTS[name])
    elseif name == "ALL_TRAFFIC" then
        value = require("e2b.network").ALL_TRAFFIC
    else
        return nil
    end
    rawset(M, name, value)
    return value
end

return setmetatable(M, { __index = lookup })
