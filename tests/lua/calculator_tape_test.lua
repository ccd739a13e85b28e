--- The calculator's tape belongs to its task, and the page is nowhere else.
local fs = require "e2b_fs"
local t = require "tests"
local tape = require "agent.tape"
local tape_files = require "tape_files"

local TAPE = "scripts/tasks/calculator.tape.jsonl"

--- What the task says to its agent.
local function prompt(workdir)
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
    t.eq(assert(loadfile("scripts/tasks/calculator.lua"))(task), nil)
    return said
end

t.test("the calculator's tape answers the calculator's task", function()
    t.ok(tape.load(TAPE))
    local first = assert(fs.read_file(TAPE)):match("\n([^\n]+)")
    t.eq(require("e2b_json").decode(first).user, prompt("{{workdir}}"))
end)

t.test("the calculator's tape writes one page that needs nothing else", function()
    local files = tape_files.files(TAPE)
    local names = {}
    for name in pairs(files) do
        names[#names + 1] = name
    end
    t.eq(names, {"index.html"})
    for _, pattern in ipairs {
        "eval%(", "<script src", "@import", "url%(", "href=\"http", "fetch%(",
    } do
        t.ok(not files["index.html"]:find(pattern), "the page has " .. pattern)
    end
    t.match(files["index.html"], "prefers%-reduced%-motion")
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

t.test("no page ships outside the tapes", function()
    for _, dir in ipairs {"scripts", "stdlib", "templates"} do
        if fs.stat(dir) then
            look(dir, function(path)
                t.ok(not path:find("%.html?$"), path)
                local text = assert(fs.read_file(path)):lower()
                t.ok(path:find("%.tape%.jsonl$") or not text:find("<!doctype html", 1, true),
                    path .. " holds a page")
            end)
        end
    end
end)
