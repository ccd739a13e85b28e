-- Task: an agent writes a calculator as a web page into the working directory,
-- which the template's web server shows.
local task = ...

local PROMPT = [[
Build a calculator as one web page: %s/index.html, with its style and script inside and nothing
loaded from elsewhere. A web server on port 3000 already shows the working directory, and
localhost can be reached from here.

It must:
- add, subtract, multiply and divide with the usual precedence (2+3×4 = 14) and brackets;
- be exact where people expect it: 0.1+0.2 shows 0.3;
- have percent, change of sign, decimals, backspace and clear;
- show words, not NaN or Infinity, for division by zero and overflow;
- keep a history of calculations; a click on one brings it back;
- work by keyboard alone: digits, operators, brackets, Enter, Esc, Backspace;
- have accessible names for all buttons, and announce results;
- have a light and a dark look, following the system;
- fit a screen 360 px wide, and look designed, not like a default form.

Never use eval. Check what you wrote: the arithmetic by a run of its code where you can, and that
http://localhost:3000/ answers with the page.]]

local agent, files = task.agent, task.sandbox.files
local page = task.workdir .. "/index.html"

for message in agent.query { prompt = PROMPT:format(task.workdir), options = { max_turns = 40 } } do
    if agent.is(message, "ResultMessage") and message.is_error then
        print("the agent did not finish: " .. table.concat(message.errors or {}, "; "))
        return 1
    end
end

if not files:exists(page) then
    print("the agent finished, but there is no " .. page)
    return 1
end
