--- Runs Lua tests: run.lua [--filter TEXT] [--settle SECONDS] [FILES or FOLDERS...], default all
--- of tests/lua. TEXT selects by path or by name of the test; SECONDS is how long what a test has
--- closed may take to be gone. The last line is `N passed, N failed, N skipped`.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path

local fs = require "e2b_fs"
local task = require "e2b_task"
local t = require "tests"

local counts = {passed = 0, failed = 0, skipped = 0}

-- ---- which tests ---------------------------------------------------------------------------

local function find(dir, found)
    for _, name in ipairs(assert(fs.list(dir))) do
        local path = dir .. "/" .. name
        if fs.stat(path).type == "dir" then
            find(path, found)
        elseif name:find("_test%.lua$") then
            found[#found + 1] = path
        end
    end
    return found
end

local function is_folder(path)
    local st = fs.stat(path)
    return st and st.type == "dir"
end

local options = {["--filter"] = "", ["--settle"] = "5"}

--- Fills the options; returns the files.
local function arguments()
    local files, i = {}, 1
    while arg[i] do
        if options[arg[i]] then
            options[arg[i]] = assert(arg[i + 1], arg[i] .. " needs a value")
            i = i + 1
        elseif is_folder(arg[i]) then
            find(arg[i], files)
        else
            files[#files + 1] = arg[i]
        end
        i = i + 1
    end
    return #files > 0 and files or find("tests/lua", files)
end

--- tests/SKIPS: lines `id reason`, `#` begins a comment.
local function allowed_skips()
    local ids = {}
    for line in (fs.read_file(here .. "/../SKIPS") or ""):gmatch("[^\n]+") do
        local id, reason = line:match("^([^#%s]%S*)%s+(%S.*)$")
        if id then
            ids[id] = reason
        end
    end
    return ids
end

-- ---- what a test may not leave behind ------------------------------------------------------

local PID = fs.realpath("/proc/self"):match("%d+")

local function children()
    local text = fs.read_file("/proc/self/task/" .. PID .. "/children") or ""
    return select(2, text:gsub("%d+", ""))
end

local function globals()
    local names = {}
    for k in pairs(_G) do
        names[k] = true
    end
    return names
end

--- Numbers that must be the same after the test. Connections that the HTTP client keeps for the
--- next request are nobody's.
local function measure()
    if package.loaded.e2b_httpc then
        package.loaded.e2b_httpc.forget()
    end
    return {
        tasks = task.count(),
        descriptors = #assert(fs.list("/proc/self/fd")),
        children = children(),
    }
end

local function grown(before)
    local now = measure()
    for _, what in ipairs {"tasks", "descriptors", "children"} do
        if now[what] > before[what] then
            return string.format("left behind: %d %s (%d before, %d after)",
                now[what] - before[what], what, before[what], now[what])
        end
    end
end

local function leftovers(before)
    local deadline = task.now() + tonumber(options["--settle"])
    local text
    repeat
        collectgarbage()
        collectgarbage()
        if package.loaded.e2b_httpc then -- kept connections are no leak
            package.loaded.e2b_httpc.forget()
        end
        text = grown(before.numbers)
        if text then
            task.sleep(0.02)
        end
    until not text or task.now() > deadline
    if text then
        return text
    end
    for k in pairs(_G) do
        if not before.globals[k] then
            return "left behind: the global " .. tostring(k)
        end
    end
    if fs.cwd() ~= before.cwd then
        return "left behind: the current folder is " .. tostring(fs.cwd())
    end
end

-- ---- running -------------------------------------------------------------------------------

local function handler(e)
    if type(e) == "string" then
        return debug.traceback(e, 2)
    elseif type(e) == "table" and e.kind and not e.traceback then
        e.traceback = debug.traceback(nil, 2)
    end
    return e
end

local function body(test)
    local ok, e = xpcall(test.fn, handler)
    if not ok then
        error(e, 0)
    end
end

local function clean_up()
    local list, first = t._cleanups, nil
    t._cleanups = {}
    for i = #list, 1, -1 do
        local ok, e = pcall(list[i])
        if not ok then
            first = first or e
        end
    end
    return first
end

--- The error of the test, nil when it is well.
local function outcome(test)
    local running = task.spawn_quiet(body, test)
    local ok, e = pcall(running.join, running, test.timeout)
    if running:status() ~= "done" and running:status() ~= "failed" then
        if type(e) == "table" and e.deadline == "task" then
            e = string.format("did not end within %g s", test.timeout)
        end
        running:cancel()
        pcall(running.join, running, 15)
    end
    local bad = clean_up()
    if not ok then
        return e or "failed without an error"
    end
    return bad
end

local function report(test, e)
    counts.failed = counts.failed + 1
    local text = t.error_text(e)
    if type(e) == "table" and e.traceback then
        text = text .. "\n" .. e.traceback
    end
    io.stdout:write("FAILED ", test.file, ": ", test.name, "\n    ",
        (text:gsub("\n", "\n    ")), "\n")
end

-- What the file wants to be done before its first test.
local function prepare(file)
    local list = t._before[file] or {}
    t._before[file] = nil
    for _, fn in ipairs(list) do
        local ok, e = xpcall(fn, handler)
        if not ok then
            report({file = file, name = "(what comes before its tests)"}, e)
        end
    end
end

local function run(test, skips)
    prepare(test.file)
    local before = {globals = globals(), cwd = fs.cwd(), numbers = measure()}
    local e = outcome(test)
    local skip = type(e) == "table" and e.skip
    if skip and skips[skip] then
        counts.skipped = counts.skipped + 1
        print("skipped " .. test.file .. ": " .. test.name .. " (" .. skips[skip] .. ")")
        return
    end
    if skip then
        e = "skips as '" .. tostring(skip) .. "', which tests/SKIPS does not list"
    end
    e = e or leftovers(before)
    if e then
        report(test, e)
    else
        counts.passed = counts.passed + 1
    end
end

local function load(path)
    local first = #t._tests + 1
    local before = globals()
    t._file = path
    local chunk, e = loadfile(path)
    local ok = chunk ~= nil
    if ok then
        ok, e = xpcall(chunk, handler)
    end
    for k in pairs(_G) do
        if ok and not before[k] then
            ok, e = false, "the file makes the global " .. tostring(k)
        end
    end
    if not ok then
        report({file = path, name = "(loading it)"}, e)
    end
    return first, #t._tests
end

local function main()
    local files = arguments()
    local filter = options["--filter"]
    local skips = allowed_skips()
    measure() -- opens the descriptors that stay
    for _, path in ipairs(files) do
        local first, last = load(path)
        local started, ran = task.now(), counts.passed + counts.failed
        for i = first, last do
            local test = t._tests[i]
            if path:find(filter, 1, true) or test.name:find(filter, 1, true) then
                run(test, skips)
            end
        end
        ran = counts.passed + counts.failed - ran
        if ran > 0 then
            print(string.format("%-50s %3d tests, %.1f s", path, ran, task.now() - started))
        end
        io.stdout:flush()
    end
    print(string.format("%d passed, %d failed, %d skipped", counts.passed, counts.failed,
        counts.skipped))
    os.exit(counts.failed == 0)
end

main()
