--- What the calculator promises to somebody in front of it, clicked and typed in a browser. Each
--- check gets a fresh browser that shows the page; where the page comes from is the caller's.
local t = require "tests"
local webdriver = require "webdriver"

local ENTER, ESCAPE, BACKSPACE = webdriver.ENTER, webdriver.ESCAPE, webdriver.BACKSPACE

---@type {name: string, look: table?, run: fun(b: Browser)}[]
local M = {}

local function check(name, look, run)
    M[#M + 1] = {name = name, look = run and look or {}, run = run or look}
end

local NAMES = {
    ["+"] = "Add", ["-"] = "Subtract", ["*"] = "Multiply", ["/"] = "Divide", ["="] = "Equals",
    ["("] = "Open bracket", [")"] = "Close bracket", ["%"] = "Percent", ["."] = "Decimal point",
    n = "Change sign", C = "Clear", B = "Backspace",
}

--- Clicks the keys of a sum: digits and the letters of NAMES.
local function click(b, sum)
    local keys = {}
    for c in sum:gmatch(".") do
        local name = NAMES[c] or c
        b.known = b.known or {}
        b.known[name] = b.known[name] or b:find('.keys [aria-label="' .. name .. '"]')
        keys[#keys + 1] = b.known[name]
    end
    b:click_all(keys)
end

--- Types the same sum.
local function type_in(b, sum)
    b:keys((sum:gsub(".", {["="] = ENTER, C = ESCAPE, B = BACKSPACE})))
end

local function shows(b, want, what)
    t.eq(b:text("#display"), want, what)
end

local SUMS = {
    {"0.1+0.2=", "0.3"},
    {"2+3*4=", "14"},
    {"(2+3)*4=", "20"},
    {"2*(3+(4-1))=", "12"},
    {"2(3+4=", "14", "a bracket multiplies; = closes what is open"},
    {"10/4=", "2.5"},
    {"1/3*3=", "1"},
    {"2/3=", "0.666666666667"},
    {"50%=", "0.5"},
    {"200+10%=", "220"},
    {"200*10%=", "20"},
    {"5n+8=", "3"},
    {"5nn=", "5"},
    {"3*-2=", "−6"},
    {".5+.25=", "0.75"},
    {"1..5", "1.5", "a second point is not taken"},
    {"007", "7"},
    {"1234567.5", "1,234,567.5"},
    {"12B3=", "13"},
    {"2+*3=", "6", "the last operator counts"},
    {"2+3=*4=", "20", "an operator goes on from the result"},
    {"2+3=7", "7", "a digit begins anew"},
    {"2+3=B", "2 + 3", "backspace goes back to the sum"},
    {"2+3C", "0"},
    {"B", "0"},
    {")", "0"},
}

local function try_sums(b, way)
    for _, sum in ipairs(SUMS) do
        way(b, "C" .. sum[1])
        shows(b, sum[2], sum[3] and sum[1] .. " (" .. sum[3] .. ")" or sum[1])
    end
end

check("calculates by clicks", function(b)
    try_sums(b, click)
end)

check("calculates by keys", function(b)
    try_sums(b, type_in)
    b:keys(ESCAPE .. "6*7=")
    shows(b, "42", "the = key")
    b:keys(ESCAPE .. "1,5+1" .. ENTER)
    shows(b, "2.5", "a comma is a decimal point")
end)

check("shows what a sum is so far", function(b)
    type_in(b, "2+3*4")
    shows(b, "2 + 3 × 4")
    t.eq(b:text("#expression"), "= 14")
    type_in(b, "=")
    t.eq(b:text("#expression"), "2 + 3 × 4 =")
end)

check("says in words what has no number", function(b)
    type_in(b, "7/0=")
    shows(b, "Can’t divide by zero")
    type_in(b, "B")
    shows(b, "7 ÷ 0")
    type_in(b, "B2=")
    shows(b, "3.5")
    type_in(b, "C1/(2-2)=")
    shows(b, "Can’t divide by zero")
    type_in(b, "+%)")
    shows(b, "Can’t divide by zero", "nothing goes on from words")
    type_in(b, "8")
    shows(b, "8")
    type_in(b, "C" .. ("999999999999999*"):rep(6) .. "999999999999999=")
    shows(b, "Too large to show")
    type_in(b, "C999999999999999*999999999999999=")
    shows(b, "1×10³⁰")
    type_in(b, "C1/3000000000000=")
    shows(b, "3.33333333333×10⁻¹³")
end)

check("prints a history that can be clicked", function(b)
    t.eq(#b:find_all("#history button"), 0)
    click(b, "2+3*4=C1/3=C100+")
    t.eq(#b:find_all("#history button"), 2)
    b:click("#history li:first-child button")
    shows(b, "100 + 14", "into the sum where a number is missing")
    click(b, "=")
    shows(b, "114")
    b:click("#history li:nth-child(2) button")
    shows(b, "0.333333333333", "else as the result it was")
    click(b, "*3=")
    shows(b, "1", "with all its digits")
    click(b, "C7/0=")
    t.eq(#b:find_all("#history button"), 4, "words are no result")
    b:script("document.getElementById('roll').scrollTop = 0")
    b:click("#forget")
    t.eq(#b:find_all("#history button"), 0)
end)

check("reaches the history and every key by keyboard", function(b)
    type_in(b, "2+3=C4*5=C")
    b:keys(webdriver.UP .. webdriver.UP .. ENTER)
    shows(b, "5")
    b:keys(webdriver.DOWN .. ENTER)
    shows(b, "20")
    b:keys("C" .. webdriver.DOWN .. ESCAPE)
    b:script("document.querySelector('[data-key=\"7\"]').focus()")
    b:keys(ENTER .. webdriver.TAB .. " ")
    shows(b, "78", "Enter and space press the key that has the focus")
    b:keys("+1" .. ENTER)
    shows(b, "79", "after typing Enter is equals again")
end)

check("leaves Enter to equals after clicks", function(b)
    click(b, "7+8")
    b:keys(ENTER)
    shows(b, "15")
end)

check("shows which key is pressed", function(b)
    local function look()
        return b:script([[
            const key = document.querySelector('[data-key="7"]');
            return key.classList.contains("down") || key.matches(":active");
        ]])
    end
    t.eq(look(), false)
    b:hold("7")
    t.eq(look(), true)
    b:release()
end)

check("gives everything an accessible name", function(b)
    type_in(b, "2+3=")
    local names = {}
    for _, key in ipairs(b:find_all("button")) do
        local name, role = b:accessible(key)
        t.eq(role, "button")
        t.ok(#name > 0, "a button has no name")
        t.ok(not names[name], "two buttons are called " .. name)
        names[name] = true
    end
    for _, name in pairs(NAMES) do
        t.ok(names[name], "no button is called " .. name)
    end
    t.ok(names["Use 5, from 2 + 3"], "the history has no name")
    t.eq(select(2, b:accessible(b:find("#display"))), "status")
    t.eq(b:script("return document.getElementById('display').ariaLive"), "polite")
    t.eq(b:script("return document.documentElement.lang"), "en")
    t.eq(b:script("return document.querySelectorAll('h1').length"), 1)
end)

local function fits(b)
    t.eq(b:script([[
        const wrong = [], width = innerWidth, height = innerHeight;
        const root = document.documentElement;
        if (root.scrollWidth > width || root.scrollHeight > height) wrong.push("the page scrolls");
        for (const e of document.querySelectorAll(".keys button, #display")) {
            const r = e.getBoundingClientRect();
            if (r.left < 0 || r.top < 0 || r.right > width || r.bottom > height)
                wrong.push(e.outerHTML + " is cut off");
            if (e.localName === "button" && Math.min(r.width, r.height) < 44)
                wrong.push(e.outerHTML + " is small for a finger");
        }
        return wrong.join("; ");
    ]]), "")
end

check("fits phones and windows", function(b)
    for _, size in ipairs {{360, 740}, {320, 568}, {1280, 800}} do
        b:look {width = size[1], height = size[2]}
        fits(b)
    end
end)

check("shrinks long numbers until they fit", function(b)
    type_in(b, "123456789012345+0=")
    shows(b, "123,456,789,012,345")
    t.ok(b:script([[
        const d = document.getElementById("display");
        return d.scrollWidth <= d.clientWidth;
    ]]), "the number is cut off")
end)

--- Contrast of ink on its key and of the text on display and paper, at least 4.5 (WCAG AA).
local function readable(b)
    type_in(b, "2+3=")
    t.eq(b:script([[
        const probe = document.body.appendChild(document.createElement("i"));
        const light = (color) => {
            probe.style.color = color;
            return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3)
                .map((c) => c / 255)
                .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        };
        const wrong = [];
        const look = (what, ink, ground) => {
            const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
            const ratio = (a + 0.05) / (b + 0.05);
            if (ratio < 4.5) wrong.push(what + " " + ratio.toFixed(2));
        };
        const root = getComputedStyle(document.documentElement);
        const name = (n) => root.getPropertyValue(n);
        for (const e of document.querySelectorAll(".keys button")) {
            const style = getComputedStyle(e);
            look(e.ariaLabel, style.color, style.getPropertyValue("--face"));
        }
        look("display", name("--lcd"), name("--glass-low"));
        look("sum", name("--lcd-soft"), name("--glass-low"));
        look("paper", name("--print"), name("--paper"));
        look("history", name("--print-soft"), name("--paper"));
        probe.remove();
        return wrong.join("; ");
    ]]), "")
end

local function ground(b)
    return b:script("return getComputedStyle(document.body).backgroundImage")
end

check("suits light and dark", function(b)
    readable(b)
    local light = ground(b)
    b:look {scheme = "dark"}
    readable(b)
    t.ok(ground(b) ~= light, "dark looks like light")
end)

check("moves only for those who like it", function(b)
    local function motion()
        type_in(b, "C2+3=")
        return b:script([[
            const key = document.querySelector(".keys button");
            return getComputedStyle(document.getElementById("display")).animationName + " " +
                getComputedStyle(key).transitionDuration.split(",")[0];
        ]])
    end
    t.eq(motion(), "land 0.12s")
    b:look {still = true}
    t.eq(motion(), "none 0s")
end)

check("takes a sum from the clipboard", function(b)
    b:script([[
        const data = new DataTransfer();
        data.setData("text/plain", "1,000 * (2 + 3) - 1");
        dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
    ]])
    type_in(b, "=")
    shows(b, "4,999")
end)

check("loads nothing else and complains of nothing", function(b)
    click(b, "2+3=")
    t.eq(b:script("return performance.getEntriesByType('resource').map((e) => e.name).join()"), "")
    t.eq(#b:log(), 0)
end)

return M
