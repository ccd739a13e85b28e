-- The annotations against the code: no public name without one, none without a
-- name; and the stubs of the C modules against the modules.
local annotations = require "annotations"
local fs = require "e2b_fs"
local t = require "tests"

local function sources(dir, found)
    for _, name in ipairs(fs.list(dir)) do
        local path = dir .. "/" .. name
        if fs.stat(path).type == "dir" then
            sources(path, found)
        elseif name:find("%.lua$") then
            found[#found + 1] = path
        end
    end
    return found
end

t.test("the reader finds what it is meant to find", function()
    local faults = annotations.faults([[
---Fine.
---@param a integer
---@param ... any
---@return integer
function M.fine(a, ...) end

function M.bare() end

---@param b integer
function M:wrong(
    a) end

function M._private(a) end
function M.__close(a) end

---@return integer

---@class x a type
---@field y integer

---@param gone integer
local function l(here) end
]])
    t.eq(faults, {
        "7: M.bare: has no annotation",
        "10: M:wrong: @param b is no parameter",
        "10: M:wrong: the parameter a has no @param",
        "17: (block): annotates nothing",
        "22: (block): @param gone is no parameter",
    })
end)

t.test("every public name of stdlib/e2b and stdlib/agent is annotated, and nothing else", function()
    local all = {}
    for _, dir in ipairs { "stdlib/e2b", "stdlib/agent", "stdlib/meta" } do
        for _, path in ipairs(sources(dir, {})) do
            for _, fault in ipairs(annotations.faults(fs.read_file(path))) do
                all[#all + 1] = path .. ":" .. fault
            end
        end
    end
    t.eq(table.concat(all, "\n"), "")
end)

-- Names of the functions that the modules have when they run are those that
-- their sources define by `function Table.name`.
t.test("the modules have the functions that their sources annotate", function()
    for _, name in ipairs { "e2b.config", "e2b.dotenv", "e2b.http", "e2b.json", "e2b.task",
        "e2b.pty", "e2b.commands", "e2b.files", "e2b.sandbox", "e2b.template", "agent",
        "agent.runner" } do
        local path = "stdlib/" .. name:gsub("%.", "/")
        local text = fs.read_file(path .. ".lua") or fs.read_file(path .. "/init.lua")
        local returned = text:match("\nreturn ([%w_]+)%s*$")
        local module = require(name)
        for _, e in ipairs(annotations.read(text)) do
            if e.table == returned and e.public and not e.colon then
                t.eq(type(module[e.key]), "function", name .. "." .. e.key)
            end
        end
    end
end)

-- Class of a stub -> the class in the registry.
local CLASSES = {
    ["e2b_task.Task"] = "e2b.task",
    ["e2b_task.Cond"] = "e2b.cond",
    ["e2b_wire.ConnectReader"] = "e2b.connect_reader",
    ["e2b_wire.SseReader"] = "e2b.sse_reader",
    ["e2b_process.Lock"] = "e2b.lock",
    ["e2b_terminal.Raw"] = "e2b.terminal.raw",
    ["e2b_terminal.Input"] = "e2b.terminal.input",
    ["e2b_terminal.Resizes"] = "e2b.terminal.resize",
    ["e2b_httpd.Request"] = "e2b.httpd.request",
    ["e2b_httpd.Server"] = "e2b.httpd",
    ["e2b_httpc.Request"] = "e2b.httpc",
    ["e2b_engine.Store"] = "e2b.store",
    ["e2b_engine.Lease"] = "e2b.lease",
    ["e2b_engine.Proxy"] = "e2b.proxy",
    ["e2b_engine.Box"] = "e2b.box",
    ["e2b_engine.Maker"] = "e2b.image",
    ["e2b_engine.Egress"] = "e2b.egress",
}

-- Functions by table of a stub, and the class that each table stands for.
local function stub_of(text)
    local functions, class_of = {}, {}
    for class, owner in text:gmatch("%-%-%-@class ([%w_.]+)[^\n]*\n[^\n]-local ([%w_]+) = {}") do
        class_of[owner] = class
    end
    local class
    for line in text:gmatch("[^\n]*") do
        class = line:match("^%-%-%-@class ([%w_.]+)") or class
        local owner = line:match("^local ([%w_]+) = {}")
        if owner then
            class_of[owner] = class
        end
    end
    for _, e in ipairs(annotations.read(text)) do
        if e.table then
            functions[e.table] = functions[e.table] or {}
            functions[e.table][e.key] = true
        end
    end
    return functions, class_of
end

local function names(set)
    local list = {}
    for name, value in pairs(set) do
        if value == true or type(value) == "function" then
            list[#list + 1] = name
        end
    end
    table.sort(list)
    return table.concat(list, " ")
end

local function c_modules()
    local found = {}
    for _, path in ipairs(sources("host/bind", {})) do
        t.ok(not path, "host/bind has Lua files")
    end
    for _, name in ipairs(fs.list("host/bind")) do
        local text = fs.read_file("host/bind/" .. name)
        for module in text:gmatch("\nint luaopen_(e2b_[%w_]+)%(lua_State %*L%)\n?[;{]") do
            found[module] = true
        end
    end
    return found
end

t.test("every C module has a stub with its functions and methods", function()
    local modules = c_modules()
    t.ok(modules.e2b_terminal and modules.e2b_engine and modules.e2b_wire)
    local registry = debug.getregistry()
    for module in pairs(modules) do
        local path = "stdlib/meta/" .. module .. ".lua"
        local text = t.ok(fs.read_file(path), path .. " is missing")
        local functions, class_of = stub_of(text)
        t.eq(names(functions.M or {}), names(require(module)), module)
        for owner, methods in pairs(functions) do
            if owner ~= "M" then
                local class = t.ok(class_of[owner], path .. ": what class is " .. owner .. "?")
                local meta = t.ok(registry[t.ok(CLASSES[class], class)], class)
                local have = meta.methods or meta.__index
                t.eq(names(methods), names(have), class)
            end
        end
    end
    for _, path in ipairs(sources("stdlib/meta", {})) do
        local module = path:match("([%w_]+)%.lua$")
        t.ok(modules[module], path .. " is a stub of nothing")
    end
end)

t.test("make docs writes a page for each module", function()
    local dir = t.tmpdir()
    local code, out = require("child").start({ require("e2b_process").exe(), "tests/lib/docs.lua",
        dir }, { dir = fs.cwd() }):wait()
    t.eq(code, 0, out)
    t.match(fs.read_file(dir .. "/index.md"), "%[e2b%.sandbox%]%(e2b%.sandbox%.md%)")
    local page = fs.read_file(dir .. "/e2b.sandbox.md")
    t.match(page, "\n### Sandbox%.create%(template, opts, %.%.%.%)\n")
    t.match(page, "%* Parameter `template%?`: string")
    t.match(page, "%* Raises: authentication")
end)
