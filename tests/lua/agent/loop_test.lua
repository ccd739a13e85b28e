-- The native loop against a server of the Messages API.
local agent = require "agent"
local fake = require "fake_model"
local fake_sandbox = require "fake_sandbox"
local fs = require "e2b_fs"
local t = require "tests"

local function sandbox()
    local home = t.tmpdir()
    return fake_sandbox.new(home, t.tmpdir()), home
end

-- All messages of a run; error is what it raised.
local function run(spec)
    local messages = {}
    local ok, err = pcall(function()
        for m in agent.query(spec) do
            messages[#messages + 1] = m
        end
    end)
    return messages, not ok and err or nil
end

local function of_type(messages, type)
    local out = {}
    for _, m in ipairs(messages) do
        if m.type == type then
            out[#out + 1] = m
        end
    end
    return out
end

t.test("answers a question without tools", function()
    local server = fake.start { fake.say "It is 4." }
    local messages, err = run { prompt = "2+2?", options = { env = server.env } }
    t.eq(err, nil)
    t.eq(#messages, 3)
    t.ok(agent.is(messages[1], "SystemMessage"))
    t.eq(messages[1].subtype, "init")
    t.ok(agent.is(messages[2], "AssistantMessage"))
    t.ok(agent.is(messages[2].content[1], "TextBlock"))
    local result = messages[3]
    t.ok(agent.is(result, "ResultMessage"))
    t.eq({ result.subtype, result.is_error, result.num_turns, result.result },
        { "success", false, 1, "It is 4." })
    t.eq(server.requests[1].stream, true)
    t.eq(server.headers[1]["x-api-key"], "sk-test-secret-1")
    t.eq(server.headers[1]["anthropic-version"], "2023-06-01")
end)

t.test("runs tools in the sandbox and hands their results back", function()
    local sbx, home = sandbox()
    local server = fake.start {
        fake.call("Write", { file_path = "a.txt", content = "hello\n" }),
        { content = {
            { type = "text", text = "Now I look." },
            { type = "tool_use", id = "t1", name = "Bash", input = { command = "cat a.txt" } },
            { type = "tool_use", id = "t2", name = "Bash", input = { command = "exit 3" } },
        }, stop_reason = "tool_use" },
        fake.say "Done.",
    }
    local messages, err = run { prompt = "go", options = { env = server.env, sandbox = sbx } }
    t.eq(err, nil)
    t.eq(fs.read_file(home .. "/a.txt"), "hello\n")
    local users = of_type(messages, "user")
    t.eq(#users, 3)
    t.match(users[1].content[1].content, "File created successfully at: .*/a%.txt")
    t.eq(users[2].content[1].content, "hello")
    t.eq(users[2].content[1].is_error, false)
    t.eq(users[3].content[1].is_error, true)
    t.match(users[3].content[1].content, "^Exit code 3")
    t.eq(users[2].tool_use_result.exit_code, 0)
    local last = server.requests[3].messages
    t.eq(#last, 5)
    t.eq({ last[5].content[1].tool_use_id, last[5].content[2].tool_use_id }, { "t1", "t2" })
    t.eq(messages[#messages].num_turns, 3)
    t.eq(#of_type(messages, "assistant"), 5)
end)

t.test("sums usage and cost, and has no cost for an unknown model", function()
    local sbx = sandbox()
    local function answers(model)
        local first = fake.call("Bash", { command = "true" })
        first.model, first.input, first.output = model, 1000, 100
        local second = fake.say "x"
        second.model, second.input, second.output = model, 2000, 50
        return { first, second }
    end
    local server = fake.start(answers "claude-sonnet-4-5-20250929")
    local messages = run { prompt = "go", options = { env = server.env, sandbox = sbx } }
    local result = messages[#messages]
    t.eq(result.usage.input_tokens, 3000)
    t.eq(result.usage.output_tokens, 150)
    t.eq(math.floor(result.total_cost_usd * 1e6 + 0.5), 3 * 3000 + 15 * 150)
    server = fake.start(answers "some-model")
    messages = run { prompt = "go", options = { env = server.env, sandbox = sbx } }
    t.eq(messages[#messages].total_cost_usd, nil)
    t.eq(messages[#messages].usage.input_tokens, 3000)
end)

t.test("stops at max_turns", function()
    local sbx = sandbox()
    local server = fake.start { fake.call("Bash", { command = "true" }),
        fake.call("Bash", { command = "true" }), fake.say "never" }
    local messages, err = run { prompt = "go",
        options = { env = server.env, sandbox = sbx, max_turns = 2 } }
    t.eq(err, nil)
    local result = messages[#messages]
    t.eq({ result.subtype, result.is_error, result.num_turns }, { "error_max_turns", true, 2 })
    t.eq(#server.requests, 2)
end)

t.test("answers bad tool calls with error results", function()
    local sbx = sandbox()
    local server = fake.start {
        { content = {
            { type = "tool_use", id = "a", name = "Fly", input = {} },
            { type = "tool_use", id = "b", name = "Bash", raw = "{\"command\": " },
            { type = "tool_use", id = "c", name = "Bash", input = { comand = "ls" } },
            { type = "tool_use", id = "d", name = "Read", input = { file_path = "nowhere" } },
            { type = "tool_use", id = "e", name = "Read", input = { file_path = 5 } },
        }, stop_reason = "tool_use" },
        fake.say "ok" }
    local messages, err = run { prompt = "go", options = { env = server.env, sandbox = sbx } }
    t.eq(err, nil)
    local users = of_type(messages, "user")
    t.eq(#users, 5)
    for _, m in ipairs(users) do
        t.eq(m.content[1].is_error, true)
    end
    t.match(users[1].content[1].content, "No such tool available: Fly")
    t.match(users[2].content[1].content, "could not be read")
    t.match(users[3].content[1].content, "`command` is missing")
    t.match(users[4].content[1].content, "does not exist")
    t.match(users[5].content[1].content, "`file_path` must be of type string")
    t.eq(messages[#messages].subtype, "success")
end)

t.test("an early break gives the request up", function()
    local gone
    local server = fake.start { function(req)
        local events = fake.events(fake.say(("x"):rep(200)))
        req:begin(200, { ["Content-Type"] = "text/event-stream" })
        for i = 1, 5 do
            req:write(events[i])
        end
        local _, err = req:read()
        while not err and req:write(": more\n\n") do
            require "e2b_task".sleep(0.02)
        end
        gone = true
    end }
    for m in agent.query { prompt = "go",
        options = { env = server.env, include_partial_messages = true } } do
        if m.type == "stream_event" then
            break
        end
    end
    local deadline = require "e2b_task".now() + 5
    while not gone and require "e2b_task".now() < deadline do
        require "e2b_task".sleep(0.02)
    end
    t.ok(gone, "the server was not left")
end)

t.test("needs a sandbox for its tools, a prompt, and known options", function()
    local server = fake.start { fake.call("Bash", { command = "ls" }) }
    local messages, err = run { prompt = "go", options = { env = server.env } }
    t.eq(err.kind, "invalid_argument")
    t.match(err.message, "needs a sandbox")
    t.eq(messages[#messages].subtype, "error_during_execution")
    t.raises("invalid_argument", agent.query, { prompt = " " })
    t.raises("invalid_argument", agent.query, "go")
    local e = t.raises("invalid_argument", agent.query, { prompt = "x",
        options = { modell = "y" } })
    t.match(e.message, 'did you mean "model"')
    e = t.raises("invalid_argument", agent.query, { prompt = "x", promt = "y" })
    t.match(e.message, "promt")
    e = t.raises("invalid_argument", agent.query, { prompt = "x",
        options = { env = server.env, tools = { "Bsh" } } })
    t.match(e.message, "did you mean 'Bash'")
    e = t.raises("invalid_argument", agent.is, {}, "AssistentMessage")
    t.match(e.message, "AssistantMessage")
end)

t.test("a sandbox that is gone ends the run with its error", function()
    local sbx = sandbox()
    local server = fake.start { function(req)
        sbx.commands.gone = true
        fake.stream(req, fake.events(fake.call("Bash", { command = "ls" })))
    end }
    local messages, err = run { prompt = "go", options = { env = server.env, sandbox = sbx } }
    t.eq(err.kind, "sandbox_not_found")
    t.eq(messages[#messages].subtype, "error_during_execution")
    t.eq(messages[#messages].is_error, true)
end)

t.test("asks before a tool runs", function()
    local sbx, home = sandbox()
    local server = fake.start {
        { content = {
            { type = "tool_use", id = "a", name = "Bash", input = { command = "touch no" } },
            { type = "tool_use", id = "b", name = "Write",
                input = { file_path = "x", content = "1" } },
            { type = "tool_use", id = "c", name = "Bash", input = { command = "echo ok" } },
        }, stop_reason = "tool_use" },
        fake.say "ok" }
    local asked = {}
    local messages = run { prompt = "go", options = { env = server.env, sandbox = sbx,
        allowed_tools = { "Bash(echo:*)" }, can_use_tool = function(name, input)
            asked[#asked + 1] = name
            if name == "Write" then
                return { behavior = "allow", updated_input = { file_path = "y",
                    content = input.content } }
            end
            return { behavior = "deny", message = "not that" }
        end } }
    t.eq(asked, { "Bash", "Write" })
    t.eq(fs.stat(home .. "/no"), nil)
    t.eq(fs.read_file(home .. "/y"), "1")
    local result = messages[#messages]
    t.eq(#result.permission_denials, 1)
    t.eq(result.permission_denials[1].tool_name, "Bash")
    t.match(of_type(messages, "user")[1].content[1].content, "not that")
end)

t.test("a reply cut at max_tokens goes on without its cut tool call", function()
    local sbx = sandbox()
    local cut = { content = { { type = "text", text = "Part one. " },
        { type = "tool_use", id = "a", name = "Bash", raw = "{\"command\": \"touch" } },
        stop_reason = "max_tokens" }
    local server = fake.start { cut, fake.say "Part two." }
    local messages, err = run { prompt = "go", options = { env = server.env, sandbox = sbx } }
    t.eq(err, nil)
    local second = server.requests[2].messages
    t.eq(#second, 3)
    t.eq(second[2].content[1].text, "Part one.")
    t.eq(#second[2].content, 1)
    t.match(second[3].content[1].text, "limit of 32000 tokens")
    t.eq(messages[#messages].result, "Part two.")
end)
