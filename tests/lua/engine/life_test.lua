-- Ends of life and fates of rows, on made clocks and made rows: what cannot be
-- had for real is a clock that jumps, a machine that sleeps, a reboot.
local life = require "engine.life"
local t = require "tests"

local SECOND <const>, HOUR <const> = 1000000, 3600 * 1000000
local WALL <const>, BOOT <const> = 1700000000 * SECOND, 5 * HOUR

local function clocks(after, jump)
    after = math.floor(after * SECOND)
    return { wall = WALL + after + (jump or 0), boot = BOOT + after }
end

local function record(seconds)
    local r = {}
    life.set_end(r, clocks(0), seconds)
    return r
end

t.test("an end is so many seconds from now", function()
    local r = record(60)
    t.eq(r, { end_at = WALL + 60 * SECOND, end_boot = BOOT + 60 * SECOND })
    t.eq({ life.left(r, clocks(0)), life.left(r, clocks(59.5)), life.left(r, clocks(60)),
        life.left(r, clocks(61)) }, { 60.0, 0.5, 0.0, 0.0 })
    t.eq(record(0.25).end_boot, BOOT + 250000)
end)

t.test("a clock set forward ends nothing, one set back keeps nothing", function()
    local r = record(60)
    for _, jump in ipairs { HOUR, -HOUR, 10 * 365 * 24 * HOUR } do
        t.eq(life.left(r, clocks(30, jump)), 30.0)
        t.eq(life.left(r, clocks(60, jump)), 0.0)
    end
end)

t.test("the time that the machine slept counts", function()
    -- CLOCK_BOOTTIME goes on meanwhile, and so does the time of day.
    t.eq(life.left(record(60), clocks(3600)), 0.0)
end)

t.test("the shown end is the promised one, or follows a clock that was set", function()
    local r = record(60)
    t.eq(life.shown_end(r, clocks(30)), r.end_at)
    t.eq(life.shown_end(r, clocks(30, 900000)), r.end_at, "a clock that is slowly corrected")
    t.eq(life.shown_end(r, clocks(30, HOUR)), r.end_at + HOUR)
    t.eq(life.shown_end(r, clocks(30, -HOUR)), r.end_at - HOUR)
end)

local function row(changes)
    local r = { kind = "sandbox", state = "running", boot_id = "this", pid = 7,
        end_boot = BOOT + 60 * SECOND }
    for name, value in pairs(changes) do
        r[name] = value
    end
    return r
end

local function fate(changes, missing)
    local r = row(changes)
    if missing then
        r[missing] = nil
    end
    return { life.fate(r, "this", clocks(0)) }
end

t.test("a finished sandbox of this boot goes on", function()
    t.eq(fate {}, { "adopt", "it runs" })
    t.eq(fate { end_boot = BOOT + 1 }, { "adopt", "it runs" })
end)

t.test("what is half made, over, or a build's is ended", function()
    t.eq(fate { state = "starting" }, { "end", "it was not finished" })
    t.eq(fate({}, "pid"), { "end", "it was not finished" })
    t.eq(fate({}, "end_boot"), { "end", "it was not finished" })
    t.eq(fate { state = "killing" }, { "end", "it was being killed" })
    t.eq(fate { kind = "step" }, { "end", "its build has no engine any more" })
    t.eq(fate { end_boot = BOOT }, { "end", "it has reached its end" })
    t.eq(fate { end_boot = BOOT - HOUR }, { "end", "it has reached its end" })
end)

t.test("a row of another boot is forgotten, whatever it says: its process is another's", function()
    for _, changes in ipairs { {}, { state = "starting" }, { state = "killing" },
        { kind = "step" }, { end_boot = BOOT - HOUR } } do
        changes.boot_id = "the one before"
        t.eq(fate(changes), { "forget", "the machine has been booted since" })
    end
    t.eq(fate({}, "boot_id")[1], "forget")
end)
