-- Task: an agent writes a memo app into the working directory: a server, which
-- the template starts, and the page that it serves.
local task = ...

local PROMPT = [[
Build a memo app in %s: server.py and index.html. The template starts "python3 server.py" in that
folder as soon as the file is there, and again whenever it ends (pkill -x python3 restarts it).

The server:
- listens on port 3000 of all addresses, needs Python's standard library only, and serves the page
  at / and a small JSON API at /api/memos: list, search, add, edit, delete, bring back;
- keeps the memos in a file, so that they survive a restart and a kill -9 in the middle;
- handles requests at the same time, bounds the size of what it takes, answers with the right
  status codes, and gives out no file but the page.

The page, style and script inside and nothing loaded from elsewhere, must:
- add, edit, delete and search memos, undo a delete, and show times as "5 minutes ago";
- show what a memo holds as text, never as markup;
- work by keyboard: N writes a new one, / searches, Ctrl+Enter saves, Esc leaves, arrows choose;
- have an empty state, and when the server does not answer keep the unsaved text and try again;
- have accessible names, and announce what was done;
- have a light and a dark look, following the system;
- fit a screen 360 px wide, and look designed, not like a default form.

Check what you wrote: try the API with good and bad requests against a second server on another
port with a file of its own, and see that http://localhost:3000/ answers with the page. Leave no
test memos behind.]]

local agent, files = task.agent, task.sandbox.files

for message in agent.query { prompt = PROMPT:format(task.workdir), options = { max_turns = 60 } } do
    if agent.is(message, "ResultMessage") and message.is_error then
        print("the agent did not finish: " .. table.concat(message.errors or {}, "; "))
        return 1
    end
end

for _, name in ipairs { "server.py", "index.html" } do
    if not files:exists(task.workdir .. "/" .. name) then
        print(("the agent finished, but there is no %s/%s"):format(task.workdir, name))
        return 1
    end
end
