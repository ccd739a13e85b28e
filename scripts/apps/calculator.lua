-- App: a calculator that an agent writes in a sandbox, at a URL.
--
--     e2blua apps/calculator.lua                 leaves it running for an hour
--     e2blua apps/calculator.lua --once          ends the sandbox when the page has been fetched
--     e2blua apps/calculator.lua --record FILE   makes a tape of what the agent does
local e2b = require "e2b"

os.exit(e2b.agent.run_app(arg, {
    name = "calculator",
    description = "Lets an agent write a calculator as a web page and says its URL.",
    task = "tasks/calculator.lua",
    template = "web_app",
    service_port = 3000,
}))
