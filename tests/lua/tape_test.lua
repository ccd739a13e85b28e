--- The tapes of the apps belong to their tasks, and what an agent writes in them is nowhere else.
local fs = require "e2b_fs"
local json = require "e2b_json"
local t = require "tests"
local tape = require "agent.tape"
local tape_files = require "tape_files"

--- What a task says to its agent.
local function prompt(name, workdir)
    local said
    local task = {
        workdir = workdir,
        sandbox = {files = {exists = function() return true end}},
        agent = {
            query = function(q)
                said = q.prompt
                return function() end
            end,
        },
    }
    t.eq(assert(loadfile("scripts/tasks/" .. name .. ".lua"))(task), nil)
    return said
end

local function path_of(name)
    return "scripts/tasks/" .. name .. ".tape.jsonl"
end

for _, name in ipairs {"calculator", "memo"} do
    t.test("the tape answers the task: " .. name, function()
        t.ok(tape.load(path_of(name)))
        local first = assert(fs.read_file(path_of(name))):match("\n([^\n]+)")
        t.eq(json.decode(first).user, prompt(name, "{{workdir}}"))
    end)
end

local function names(files)
    local out = {}
    for name in pairs(files) do
        out[#out + 1] = name
    end
    table.sort(out)
    return out
end

local function lacks(text, patterns)
    for _, pattern in ipairs(patterns) do
        t.ok(not text:find(pattern), "it has " .. pattern)
    end
end

local ELSEWHERE = {"eval%(", "<script src", "@import", "url%(", "href=\"http"}

t.test("the calculator's tape writes one page that needs nothing else", function()
    local files = tape_files.files(path_of "calculator")
    t.eq(names(files), {"index.html"})
    lacks(files["index.html"], ELSEWHERE)
    lacks(files["index.html"], {"fetch%("})
    t.match(files["index.html"], "prefers%-reduced%-motion")
end)

t.test("the memo's tape writes a page that takes no text as markup, and a server", function()
    local files = tape_files.files(path_of "memo")
    t.eq(names(files), {"index.html", "server.py"})
    local page, server = files["index.html"], files["server.py"]
    lacks(page, ELSEWHERE)
    lacks(page, {"innerHTML", "outerHTML", "insertAdjacentHTML", "document%.write"})
    t.match(page, "prefers%-reduced%-motion")
    local known = {}
    for word in ("argparse base64 contextlib hashlib http json os re sqlite3 sys threading time "
        .. "unicodedata urllib"):gmatch("%S+") do
        known[word] = true
    end
    for module in ("\n" .. server):gmatch("\n%s*import ([%w_]+)") do
        t.ok(known[module], "imports " .. module)
    end
    for module in ("\n" .. server):gmatch("\n%s*from ([%w_]+)") do
        t.ok(known[module], "imports from " .. module)
    end
end)

local function look(dir, fn)
    for _, name in ipairs(assert(fs.list(dir))) do
        local path = dir .. "/" .. name
        if fs.stat(path).type == "dir" then
            look(path, fn)
        else
            fn(path)
        end
    end
end

t.test("no page and no server of an app ships outside the tapes", function()
    for _, dir in ipairs {"scripts", "stdlib", "templates"} do
        look(dir, function(path)
            t.ok(not path:find("%.html?$") and not path:find("%.py$"), path)
            local text = assert(fs.read_file(path)):lower()
            for _, mark in ipairs {"<!doctype html", "basehttprequesthandler", "create table if"} do
                t.ok(path:find("%.tape%.jsonl$") or not text:find(mark, 1, true),
                    path .. " holds " .. mark)
            end
        end)
    end
end)
