-- App: memos, page and server written by an agent in a sandbox, at a URL.
--
--     e2blua apps/memo.lua            leaves it running for an hour
--     e2blua apps/memo.lua --once     ends the sandbox when page and memos have been fetched
local e2b = require "e2b"

local once = false
for _, word in ipairs(arg) do
    if word ~= "--once" then
        io.stderr:write("memo: there is no option ", word, "; there is --once\n")
        os.exit(2)
    end
    once = true
end

local result = e2b.agent.run_code_with_service("tasks/memo.lua", {
    template = "memo_app",
    service_port = 3000,
    timeout = 3600,
})
if result.exit_code ~= 0 then
    os.exit(result.exit_code)
end

if once then
    local ok, page, memos = pcall(function()
        return e2b.http.get(result.service_url), e2b.http.get(result.service_url .. "/api/memos")
    end)
    e2b.Sandbox.kill(result.sandbox_id)
    if not ok then
        error(page, 0)
    end
    print(("fetched the page (%d, %d bytes) and its memos (%d); the sandbox is gone"):format(
        page.status, #page.body, memos.status))
    os.exit(page.status == 200 and memos.status == 200 and 0 or 1)
end
