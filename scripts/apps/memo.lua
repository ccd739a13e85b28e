-- App: memos, page and server written by an agent in a sandbox, at a URL.
--
--     e2blua apps/memo.lua                 leaves it running for an hour
--     e2blua apps/memo.lua --once          ends the sandbox when page and memos have been fetched
--     e2blua apps/memo.lua --record FILE   makes a tape of what the agent does
local e2b = require "e2b"

os.exit(e2b.agent.run_app(arg, {
    name = "memo",
    description = "Lets an agent write a memo app, page and server, and says its URL.",
    task = "tasks/memo.lua",
    template = "memo_app",
    service_port = 3000,
    paths = { "/", "/api/memos" },
}))
