--- What the memo app promises to somebody in front of it, clicked and typed in a browser. Each
--- check gets a fresh browser that shows the page of a server without memos; both are the caller's.
---
--- world.api(method, path, body) -> status, answer asks the server; world.stop() ends it for good,
--- world.start() lets it run again, world.restart() kills it and waits for the next one.
local t = require "tests"
local task = require "e2b_task"
local webdriver = require "webdriver"

local ENTER, ESCAPE, DELETE = webdriver.ENTER, webdriver.ESCAPE, webdriver.DELETE
local UP, DOWN, CONTROL = webdriver.UP, webdriver.DOWN, webdriver.CONTROL

---@type {name: string, look: table?, run: fun(b: Browser, world: table)}[]
local M = {}

local function check(name, look, run)
    M[#M + 1] = {name = name, look = run and look or {}, run = run or look}
end

--- Waits until a JavaScript expression has that value.
local function becomes(b, code, want, what)
    local deadline = task.now() + 15
    while true do
        local got = b:script("return " .. code)
        if got == want then
            return
        elseif task.now() > deadline then
            t.eq(got, want, what or code)
        end
        task.sleep(0.05)
    end
end

local TEXTS = "[...document.querySelectorAll('.slip .text')].map((e) => e.textContent).join('|')"

--- Waits until the slips say that, from the first to the last.
local function shows(b, ...)
    becomes(b, TEXTS, table.concat({...}, "|"), "the slips")
end

local function noted(b, text)
    becomes(b, "!note.hidden && document.getElementById('note-text').textContent", text, "the note")
end

--- Puts memos on the server, the last one newest, and shows them.
local function given(b, world, ...)
    for _, text in ipairs {...} do
        t.eq(world.api("POST", "", {text = text}), 201)
    end
    b:script("refresh()")
    becomes(b, "document.querySelectorAll('.slip').length", select("#", ...))
end

local function write(b, text)
    b:click("#new")
    b:keys(text)
    b:chord(CONTROL, ENTER)
end

local function focus(b)
    return b:script("return document.activeElement.id || document.activeElement.ariaLabel")
end

check("begins with an empty state", function(b)
    becomes(b, "document.getElementById('blank').hidden", false)
    t.eq(b:text("#blank-title"), "No memos yet")
    t.eq(b:text("#count"), "")
    b:click("#pad button")
    t.eq(focus(b), "new", "there is nothing to save")
end)

check("adds memos, the newest first", function(b, world)
    write(b, "first")
    shows(b, "first")
    t.eq(b:script("return document.getElementById('new').value"), "")
    b:click("#new")
    b:keys("  second" .. ENTER .. "line ")
    b:click("#pad button")
    shows(b, "second\nline", "first")
    t.eq(b:text("#count"), "2 memos")
    t.eq(b:text(".slip time"), "just now")
    t.eq(b:script("return document.getElementById('blank').hidden"), true)
    becomes(b, "document.getElementById('said').textContent", "Memo saved")
    local _, answer = world.api("GET", "")
    t.eq({answer.total, answer.memos[1].text}, {2, "second\nline"})
end)

check("keeps memos over a reload and a kill -9 of the server", function(b, world)
    write(b, "stays")
    shows(b, "stays")
    b:script("location.reload()")
    shows(b, "stays")
    world.restart()
    b:script("location.reload()")
    shows(b, "stays")
    t.eq(select(2, world.api("GET", "")).total, 1)
end)

check("edits", function(b, world)
    given(b, world, "one", "two")
    b:click(".slip:nth-child(2) .edit")
    b:keys(" and a half")
    b:click(".slip form button[type=submit]")
    shows(b, "two", "one and a half")
    t.match(b:text(".slip:nth-child(2) time"), "^edited just now$")
    b:click(".slip:nth-child(1) .edit")
    b:keys("!")
    b:chord(CONTROL, ENTER)
    shows(b, "two!", "one and a half")
    b:click(".slip:nth-child(1) .edit")
    b:keys("?" .. ESCAPE)
    shows(b, "two!", "one and a half")
    noted(b, "Changes discarded")
    b:click("#undo")
    b:chord(CONTROL, ENTER)
    shows(b, "two!?", "one and a half")
    b:click(".slip:nth-child(1) .edit")
    b:chord(CONTROL, "a")
    b:keys(DELETE)
    b:chord(CONTROL, ENTER)
    t.match(b:text(".slip form .why"), "needs some text")
end)

check("keeps an unfinished edit over a reload", function(b, world)
    given(b, world, "one")
    b:click(".slip .edit")
    b:keys(" more")
    b:script("location.reload()")
    becomes(b, "document.querySelector('.slip textarea')?.value", "one more")
    b:click(".slip form button[type=submit]")
    shows(b, "one more")
end)

check("shows what was changed elsewhere before it is overwritten", function(b, world)
    given(b, world, "mine")
    local id = select(2, world.api("GET", "")).memos[1].id
    b:click(".slip .edit")
    b:keys(" here")
    t.eq(world.api("PUT", "/" .. id, {text = "theirs"}), 200)
    b:chord(CONTROL, ENTER)
    becomes(b, "document.querySelector('.theirs')?.textContent", "theirs")
    b:chord(CONTROL, ENTER)
    shows(b, "mine here")
end)

check("deletes, and brings back what was deleted", function(b, world)
    given(b, world, "a", "b", "c")
    b:click(".slip:nth-child(2) .delete")
    shows(b, "c", "a")
    noted(b, "Memo deleted")
    t.eq(select(2, world.api("GET", "")).total, 2)
    b:click("#undo")
    shows(b, "c", "b", "a")
    t.eq(focus(b), "Memo: b")
    b:keys(DELETE)
    shows(b, "c", "a")
    t.eq(focus(b), "Memo: a")
    b:keys(DELETE)
    shows(b, "c")
    b:chord(CONTROL, "z")
    shows(b, "c", "a")
    b:chord(CONTROL, "z")
    shows(b, "c", "b", "a")
    becomes(b, "note.hidden", true)
end)

check("searches", function(b, world)
    given(b, world, "Äpfel und Birnen", "50% of (all) apples", "a_b", "birnen, äpfel")
    b:keys("/äpfel BIRN")
    shows(b, "birnen, äpfel", "Äpfel und Birnen")
    t.eq(b:text("#count"), "2 of 4")
    t.eq(b:script([[return [...document.querySelectorAll(".slip mark")].map((e) => e.textContent)
        .join()]]), "birn,äpfel,Äpfel,Birn")
    becomes(b, "document.getElementById('said').textContent", "2 memos found")
    b:keys(ESCAPE)
    becomes(b, "document.querySelectorAll('.slip').length", 4)
    b:keys("50% (")
    shows(b, "50% of (all) apples")
    b:click("#clear")
    b:keys("_")
    shows(b, "a_b")
    b:keys("zebra")
    becomes(b, "document.getElementById('blank-title').textContent", "Nothing has “_zebra”")
    b:click("#blank-act")
    becomes(b, "document.querySelectorAll('.slip').length", 4)
end)

check("shows a new memo although it was searched for something else", function(b, world)
    given(b, world, "old")
    b:keys("/old")
    becomes(b, "document.querySelectorAll('mark').length", 1)
    write(b, "new")
    shows(b, "new", "old")
    t.eq(b:script("return document.getElementById('search').value"), "")
end)

local HOSTILE = {
    "<img src=x onerror=\"window.hit=1\">", "<script>window.hit=1</script>", "</li></ul><h1>x",
    "\"><svg onload=window.hit=1>", "javascript:window.hit=1", "&lt;b&gt; &amp; {{7*7}} ${7*7}",
    "'; DROP TABLE memos; --", "<style>*{display:none}</style>",
}

check("shows hostile text as text", function(b, world)
    given(b, world, table.unpack(HOSTILE))
    local want = {}
    for i, text in ipairs(HOSTILE) do
        want[#HOSTILE + 1 - i] = text
    end
    shows(b, table.unpack(want))
    b:keys("/<img onerror")
    shows(b, HOSTILE[1])
    b:keys("zebra<b>")
    becomes(b, "document.getElementById('blank-title').textContent",
        "Nothing has “<img onerrorzebra<b>”")
    b:keys(ESCAPE)
    shows(b, table.unpack(want))
    b:click(".slip:nth-child(8) .edit")
    t.eq(b:script("return document.querySelector('.slip textarea').value"), HOSTILE[1])
    t.eq(b:script([[return [window.hit === undefined,
        document.querySelectorAll(".slip img, .slip script, .slip style, h1").length].join()]]),
        "true,1")
end)

check("lets no script run but its own", function(b)
    b:script([[
        const s = document.createElement("script");
        s.textContent = "window.hit = 1";
        document.body.append(s);
        const i = document.createElement("img");
        i.setAttribute("onerror", "window.hit = 1");
        i.src = "data:,";
        document.body.append(i);
    ]])
    task.sleep(0.3)
    t.eq(b:script("return window.hit === undefined"), true)
end)

check("works by keyboard alone", function(b)
    b:keys("nfirst")
    b:chord(CONTROL, ENTER)
    shows(b, "first")
    b:keys("second")
    b:chord(CONTROL, ENTER)
    shows(b, "second", "first")
    b:keys(ESCAPE .. DOWN)
    t.eq(focus(b), "Memo: second")
    b:keys(DOWN)
    t.eq(focus(b), "Memo: first")
    b:keys("e")
    b:keys(" edited")
    b:chord(CONTROL, ENTER)
    shows(b, "second", "first edited")
    t.eq(focus(b), "Memo: first edited")
    b:keys(UP .. UP)
    t.eq(focus(b), "search")
    b:keys("sec")
    shows(b, "second")
    b:keys(DOWN .. DELETE)
    noted(b, "Memo deleted")
    t.eq(b:text("#blank-title"), "Nothing has “sec”")
    b:keys(ESCAPE)
    b:chord(CONTROL, "z")
    shows(b, "second", "first edited")
    b:keys("n")
    t.eq(focus(b), "new")
end)

check("walks over two columns", {width = 1280, height = 800}, function(b, world)
    given(b, world, "four", "three", "two", "one")
    b:keys(DOWN)
    t.eq(focus(b), "Memo: one")
    b:keys(webdriver.RIGHT)
    t.eq(focus(b), "Memo: two")
    b:keys(DOWN)
    t.eq(focus(b), "Memo: four")
    b:keys(webdriver.LEFT)
    t.eq(focus(b), "Memo: three")
    b:keys(UP)
    t.eq(focus(b), "Memo: one")
end)

local function is_away(b, away)
    becomes(b, "document.body.classList.contains('away')", away, "away")
end

check("keeps what is unsaved while the server is gone, and saves it once", function(b, world)
    given(b, world, "old")
    world.stop()
    b:click(".slip .edit")
    b:keys(" and edited")
    b:chord(CONTROL, ENTER)
    becomes(b, "document.querySelector('.slip form .why').textContent.includes('kept here')", true)
    write(b, "new")
    becomes(b, "document.getElementById('new-why').textContent.includes('kept here')", true)
    is_away(b, true)
    t.eq(b:text("#state"), "No answer, trying again…")
    b:chord(CONTROL, ENTER)
    b:keys("!")
    t.eq(b:script("return document.getElementById('new').value"), "new!")
    world.start()
    is_away(b, false)
    shows(b, "new!", "old and edited")
    t.eq(b:script("return document.getElementById('new').value"), "")
    t.eq(b:text("#new-why"), "")
    t.eq(select(2, world.api("GET", "")).total, 2)
end)

check("keeps the unsaved text over a reload", function(b)
    b:keys("nhalf a thou")
    b:script("location.reload()")
    becomes(b, "document.getElementById('new')?.value", "half a thou")
    b:keys("nght")
    b:chord(CONTROL, ENTER)
    shows(b, "half a thought")
end)

check("deletes nothing while the server is gone", function(b, world)
    given(b, world, "old")
    world.stop()
    b:click(".slip .delete")
    noted(b, "Not deleted: the server does not answer")
    shows(b, "old")
    world.start()
    is_away(b, false)
    shows(b, "old")
end)

check("takes no memo that is too long", function(b, world)
    b:script([[
        const pad = document.getElementById("new");
        pad.value = "x".repeat(10003);
        pad.dispatchEvent(new Event("input"));
    ]])
    t.eq(b:text("#new-why"), "3 characters too many")
    b:click("#pad button")
    t.eq(select(2, world.api("GET", "")).total, 0)
end)

check("shortens long memos and long lists", function(b, world)
    local lines = {}
    for i = 1, 40 do
        lines[i] = "line " .. i
    end
    for i = 1, 60 do
        world.api("POST", "", {text = "memo " .. i})
    end
    world.api("POST", "", {text = table.concat(lines, "\n")})
    b:script("refresh()")
    becomes(b, "document.querySelectorAll('.slip').length", 60)
    local height = "document.querySelector('.slip').offsetHeight"
    t.ok(b:script("return " .. height) < 450, "the memo is not cut")
    b:click(".slip .more")
    t.ok(b:script("return " .. height) > 900, "the memo is still cut")
    b:click("#older")
    becomes(b, "document.querySelectorAll('.slip').length", 61)
    t.eq(b:script("return document.getElementById('older').hidden"), true)
end)

check("tells times relatively", function(b, world)
    given(b, world, "x")
    t.eq(b:script([[
        const now = Date.now() + ahead;
        return [10, 70, 300, 3700, 5 * 3600, 26 * 3600, 8 * 86400].map((s) => ago(now - s * 1000))
            .join();
    ]]), "just now,1 minute ago,5 minutes ago,1 hour ago,5 hours ago,yesterday,last week")
    t.match(b:script("return document.querySelector('.slip time').dateTime"), "^%d+%-%d%d%-%d%dT")
end)

check("gives everything an accessible name", function(b, world)
    given(b, world, "Call the plumber\nabout the tap", "Dentist")
    local names = {}
    for _, element in ipairs(b:find_all("button:not([hidden]), textarea, input, form, section")) do
        local shown = b:script("return arguments[0].checkVisibility()",
            {["element-6066-11e4-a52e-4f735466cecf"] = element})
        local name = b:accessible(element)
        t.ok(#name > 0 or not shown, "something has no name")
        t.ok(not names[name] or not shown, "two are called " .. name)
        names[name] = shown
    end
    for _, name in ipairs {"Save memo", "Search memos", "Text of the new memo", "New memo",
        "Saved memos", "Edit: Call the plumber", "Delete: Dentist", "Write a new memo"} do
        t.ok(names[name], "nothing is called " .. name)
    end
    t.eq(select(2, b:accessible(b:find("#list"))), "list")
    t.eq(select(2, b:accessible(b:find("#state"))), "status")
    t.eq(b:script("return document.getElementById('said').ariaLive"), "polite")
    t.eq(b:script("return document.documentElement.lang"), "en")
    t.eq(b:script("return document.querySelectorAll('h1').length"), 1)
end)

local function fits(b)
    t.eq(b:script([[
        const wrong = [], width = document.documentElement.clientWidth;
        if (document.documentElement.scrollWidth > width) wrong.push("the page is too wide");
        for (const e of document.querySelectorAll("button, .face, .pad, .screen")) {
            if (!e.checkVisibility()) continue;
            const r = e.getBoundingClientRect();
            if (r.left < 0 || r.right > width) wrong.push(e.outerHTML + " is cut off");
            if (e.matches("button:not(.more)") && Math.min(r.width, r.height) < 44)
                wrong.push(e.outerHTML + " is small for a finger");
        }
        const slips = [...document.querySelectorAll(".face")].map((e) => e.getBoundingClientRect());
        for (const [i, a] of slips.entries())
            for (const c of slips.slice(i + 1))
                if (a.left < c.right && c.left < a.right && a.top < c.bottom && c.top < a.bottom)
                    wrong.push("slips overlap");
        return wrong.join("; ");
    ]]), "")
end

check("fits phones and windows", function(b, world)
    given(b, world, ("w"):rep(300), "short", "two\nlines", ("words and words "):rep(30))
    for _, size in ipairs {{360, 740}, {320, 568}, {900, 700}, {1280, 800}} do
        b:look {width = size[1], height = size[2]}
        b:script("return new Promise((done) => requestAnimationFrame(() => setTimeout(done, 60)))")
        fits(b)
    end
    b:look {}
    b:click(".slip:nth-child(2) .edit")
    fits(b)
end)

--- Contrast of every ink on its ground, at least 4.5 (WCAG AA).
local function readable(b)
    t.eq(b:script([[
        const probe = document.body.appendChild(document.createElement("i"));
        const root = getComputedStyle(document.documentElement);
        const light = (name) => {
            probe.style.color = root.getPropertyValue("--" + name);
            return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3)
                .map((c) => c / 255)
                .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        };
        const wrong = [];
        for (const pair of arguments[0].split(" ")) {
            const [a, b] = pair.split("/").map(light).sort((x, y) => y - x);
            const ratio = (a + 0.05) / (b + 0.05);
            if (!(ratio >= 4.5)) wrong.push(pair + " " + ratio.toFixed(2));
        }
        probe.remove();
        return wrong.join("; ");
    ]], "print/paper print-soft/paper danger/paper room-ink/room print/room body-ink/body-low "
        .. "danger/body-low lcd/glass-low lcd-soft/glass-low gum-ink/gum tool-ink/tool "
        .. "mark-ink/mark note-ink/note note-act/note"), "")
end

local function ground(b)
    return b:script("return getComputedStyle(document.body).backgroundColor")
end

check("suits light and dark", function(b)
    readable(b)
    local light = ground(b)
    b:look {scheme = "dark"}
    readable(b)
    t.ok(ground(b) ~= light, "dark looks like light")
end)

check("moves only for those who like it", function(b, world)
    given(b, world, "x")
    local function motion()
        return b:script([[
            document.querySelector(".slip").classList.add("fresh");
            return getComputedStyle(document.querySelector(".slip article")).animationName + " " +
                getComputedStyle(document.querySelector(".key")).transitionDuration.split(",")[0];
        ]])
    end
    t.eq(motion(), "land 0.12s")
    b:look {still = true}
    t.eq(motion(), "none 0s")
end)

check("loads nothing from elsewhere and complains of nothing", function(b)
    write(b, "x")
    shows(b, "x")
    t.eq(b:script([[return performance.getEntriesByType("resource")
        .filter((e) => new URL(e.name).origin !== location.origin).map((e) => e.name).join()]]), "")
    t.eq(#b:log(), 0)
end)

return M
