--- The calculator's page in a browser, as its tape writes it.
local checks = require "calculator_checks"
local httpd = require "e2b_httpd"
local t = require "tests"
local tape_files = require "tape_files"
local webdriver = require "webdriver"

--- Serves the page; returns its URL.
local function serve()
    local page = tape_files.files("scripts/tasks/calculator.tape.jsonl")["index.html"]
    local server = assert(httpd.listen {
        handler = function(req)
            if req.path == "/" then
                req:reply(200, {["Content-Type"] = "text/html"}, page)
            else
                req:reply(404)
            end
        end,
    })
    t.cleanup(function()
        server:close()
    end)
    return "http://127.0.0.1:" .. server.port .. "/"
end

for _, check in ipairs(checks) do
    t.test("the calculator " .. check.name, function()
        local url = serve()
        local browser <close> = webdriver.open(check.look)
        browser:go(url)
        check.run(browser)
    end)
end
