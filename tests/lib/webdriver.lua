--- A browser for tests: a small client of the W3C WebDriver protocol, for the chromedriver that
--- with_chromedriver.sh starts. Every call raises when the driver answers with an error.
local fs = require "e2b_fs"
local http = require "e2b.http"
local json = require "e2b_json"
local task = require "e2b_task"
local wire = require "e2b_wire"

local ELEMENT = "element-6066-11e4-a52e-4f735466cecf" -- the protocol's name for a reference
local FLAGS = {
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
}

local M = {}

--- Keys without a character, for Browser:keys.
M.ENTER, M.ESCAPE, M.BACKSPACE, M.TAB = "\u{E007}", "\u{E00C}", "\u{E003}", "\u{E004}"
M.LEFT, M.UP, M.RIGHT, M.DOWN = "\u{E012}", "\u{E013}", "\u{E014}", "\u{E015}"
M.DELETE, M.CONTROL = "\u{E017}", "\u{E009}"

---@class Browser
local Browser = {}
Browser.__index = Browser

local function call(method, url, body)
    local answer = http.request {
        method = method,
        url = url,
        body = body and json.encode(body),
        -- An open connection would count as left behind by the test.
        headers = {["Content-Type"] = "application/json", Connection = "close"},
        timeout = 30,
    }
    local value = assert(json.decode(answer.body)).value
    if answer.status ~= 200 then
        error(string.format("%s %s: %s: %s", method, url, value.error,
            tostring(value.message):match("^[^\n]*")), 0)
    end
    return value
end

--- Opens a browser with a profile of its own. Close it.
---@param opts? {width: integer, height: integer, scheme: "light"|"dark", still: boolean}  CSS
---pixels, default 360 x 740; still: the user asks for reduced motion
---@return Browser
function M.open(opts)
    local driver = os.getenv("WEBDRIVER_URL")
    if not driver then
        error("no WEBDRIVER_URL: run the tests through tests/lib/with_chromedriver.sh", 0)
    end
    local profile = (os.getenv("TMPDIR") or "/tmp") .. "/e2blua-browser-" .. wire.random(8)
    local args = {table.unpack(FLAGS)}
    args[#args + 1] = "--user-data-dir=" .. profile
    local session = call("POST", driver .. "/session", {
        capabilities = {
            alwaysMatch = {
                browserName = "chrome",
                ["goog:chromeOptions"] = {args = args},
                ["goog:loggingPrefs"] = {browser = "ALL"},
            },
        },
    })
    local self = setmetatable({
        _base = driver .. "/session/" .. session.sessionId, _profile = profile,
    }, Browser)
    self:look(opts or {})
    return self
end

---@param method string
---@param path string  below the session
function Browser:_call(method, path, body)
    return call(method, self._base .. path, body)
end

--- Size of the window and the user's wishes; fields as in M.open.
function Browser:look(opts)
    self:cdp("Emulation.setDeviceMetricsOverride", {
        width = opts.width or 360, height = opts.height or 740, deviceScaleFactor = 1,
        mobile = false,
    })
    self:cdp("Emulation.setEmulatedMedia", {
        features = {
            {name = "prefers-color-scheme", value = opts.scheme or "light"},
            {name = "prefers-reduced-motion", value = opts.still and "reduce" or "no-preference"},
        },
    })
end

--- Ends the browser and removes its profile. Twice is fine.
function Browser:close()
    if not self._base then
        return
    end
    local base = self._base
    self._base = nil
    call("DELETE", base)
    local deadline = task.now() + 5 -- the browser's last writes
    while not fs.remove_tree(self._profile) and task.now() < deadline do
        task.sleep(0.05)
    end
end

Browser.__close = Browser.close

---@param url string
function Browser:go(url)
    self:_call("POST", "/url", {url = url})
end

--- A command of Chrome's own protocol.
function Browser:cdp(command, params)
    return self:_call("POST", "/goog/cdp/execute", {cmd = command, params = params or {}})
end

--- Runs the body of a JavaScript function; the arguments are `arguments` in it.
---@return any
function Browser:script(code, ...)
    return self:_call("POST", "/execute/sync", {script = code, args = json.array {...}})
end

---@param css string  a selector
---@return string element
function Browser:find(css)
    return self:_call("POST", "/element", {using = "css selector", value = css})[ELEMENT]
end

---@return string[] elements
function Browser:find_all(css)
    local list = self:_call("POST", "/elements", {using = "css selector", value = css})
    for i, e in ipairs(list) do
        list[i] = e[ELEMENT]
    end
    return list
end

--- A click with the mouse in the middle of the element, which must be visible there.
function Browser:click(css)
    self:_call("POST", "/element/" .. self:find(css) .. "/click", json.decode("{}"))
end

--- Moves the mouse from element to element and clicks each; far faster than as many calls of
--- Browser:click, and it does not look whether something covers them.
---@param elements string[]
function Browser:click_all(elements)
    local actions = {}
    for _, element in ipairs(elements) do
        local origin = {[ELEMENT] = element}
        actions[#actions + 1] = {type = "pointerMove", origin = origin, x = 0, y = 0, duration = 0}
        actions[#actions + 1] = {type = "pointerDown", button = 0}
        actions[#actions + 1] = {type = "pointerUp", button = 0}
    end
    self:_call("POST", "/actions", {
        actions = {{type = "pointer", id = "mouse", actions = actions}},
    })
end

---@return string text  as it is visible
function Browser:text(css)
    return self:_call("GET", "/element/" .. self:find(css) .. "/text")
end

--- What assistive technology is told about an element.
---@return string name
---@return string role
function Browser:accessible(element)
    return self:_call("GET", "/element/" .. element .. "/computedlabel"),
        self:_call("GET", "/element/" .. element .. "/computedrole")
end

--- Presses and releases the keys of the text, one after the other, wherever the focus is.
function Browser:keys(text)
    local actions = {}
    for _, code in utf8.codes(text) do
        for _, kind in ipairs {"keyDown", "keyUp"} do
            actions[#actions + 1] = {type = kind, value = utf8.char(code)}
        end
    end
    self:_call("POST", "/actions", {
        actions = {{type = "key", id = "keyboard", actions = actions}},
    })
end

--- Presses a key while another is held.
function Browser:chord(held, key)
    local actions = {}
    for _, step in ipairs {{"keyDown", held}, {"keyDown", key}, {"keyUp", key}, {"keyUp", held}} do
        actions[#actions + 1] = {type = step[1], value = step[2]}
    end
    self:_call("POST", "/actions", {
        actions = {{type = "key", id = "keyboard", actions = actions}},
    })
end

--- Presses a key and holds it until Browser:release.
function Browser:hold(key)
    self:_call("POST", "/actions", {
        actions = {{type = "key", id = "keyboard", actions = {{type = "keyDown", value = key}}}},
    })
end

function Browser:release()
    self:_call("DELETE", "/actions")
end

--- Messages of the console since the last call.
---@return {level: string, message: string}[]
function Browser:log()
    return self:_call("POST", "/se/log", {type = "browser"})
end

---@return string png
function Browser:screenshot()
    return assert(wire.unbase64(self:_call("GET", "/screenshot")))
end

return M
