-- Tapes and the offline model that replays them.
local agent = require "agent"
local fake_sandbox = require "fake_sandbox"
require "fake_model"
local fs = require "e2b_fs"
local json = require "e2b_json"
local offline = require "agent.offline"
local t = require "tests"
local tape = require "agent.tape"

local function lines(...)
    local out = {}
    for i, v in ipairs { ... } do
        out[i] = type(v) == "string" and v or json.encode(v)
    end
    return table.concat(out, "\n") .. "\n"
end

local function content(...)
    return json.array { ... }
end

local function call(name, input)
    return { type = "tool_use", name = name, input = input }
end

local HEAD = { tape = 1, name = "test" }
local TAPE = lines(HEAD,
    { turn = 0, user = "Make a page in {{workdir}}.", reply = { content = content(
        { type = "text", text = "I write {{workdir}}/p.txt." },
        call("Write", { file_path = "{{workdir}}/p.txt", content = "in {{workdir}}\n" })) } },
    { turn = 1, reply = { content = content(
        call("Bash", { command = "cat p.txt" }), call("Bash", { command = "ls missing" })) } },
    { turn = 2, is_error = json.array { false, true }, reply = { content = content(
        { type = "text", text = "Done." }), usage = { output_tokens = 7 } } })

-- Replays a tape in a folder; what is written to the client's pool is not waited for.
local function replay(source, prompt, home, given)
    local notices, messages = {}, {}
    local server = offline.open(tape.parse(source, "test.jsonl"), function(text)
        notices[#notices + 1] = text
    end)
    t.cleanup(function()
        server:close()
    end)
    given = given or {}
    given.env = server:env()
    given.sandbox = given.sandbox or fake_sandbox.new(home, t.tmpdir())
    local ok, err = pcall(function()
        for m in agent.query { prompt = prompt, options = given } do
            messages[#messages + 1] = m
        end
    end)
    return messages, notices, not ok and err or nil
end

t.test("the same tape works in two folders, and its calls are carried out", function()
    for _ = 1, 2 do
        local home = t.tmpdir()
        local messages, notices, err = replay(TAPE, "Make a page in " .. home .. ".", home)
        t.eq(err, nil)
        t.eq(notices, {})
        t.eq(fs.read_file(home .. "/p.txt"), "in " .. home .. "\n")
        local seen = {}
        for _, m in ipairs(messages) do
            if m.type == "user" then
                seen[#seen + 1] = m.content[1]
            end
        end
        t.eq(#seen, 3)
        t.eq(seen[2].content, "in " .. home)
        t.eq({ seen[1].is_error, seen[2].is_error, seen[3].is_error }, { false, false, true })
        local result = messages[#messages]
        t.eq({ result.subtype, result.result, result.total_cost_usd }, { "success", "Done.", nil })
        t.eq(result.usage.output_tokens, 7)
    end
end)

t.test("a command that breaks is reported, and the run goes on", function()
    local home = t.tmpdir()
    local sbx = fake_sandbox.new(home, t.tmpdir())
    local write = sbx.files.write
    sbx.files.write = function(self, path, data)
        write(self, path, data)
        assert(fs.remove_tree(path))
    end
    local messages, notices, err = replay(TAPE, "Make a page in " .. home .. ".", home,
        { sandbox = sbx })
    t.eq(err, nil)
    t.eq(#notices, 1)
    t.match(notices[1], "step 3 %(turn 2%): Bash failed")
    t.eq(messages[#messages].subtype, "success")
    local failed = 0
    for _, m in ipairs(messages) do
        if m.type == "user" and m.content[1].is_error then
            failed = failed + 1
        end
    end
    t.eq(failed, 2)
end)

t.test("another prompt says where it differs", function()
    local home = t.tmpdir()
    local messages, _, err = replay(TAPE, "Make a song in " .. home .. ".", home)
    t.eq(err.kind, "invalid_argument")
    t.match(err.message, "step 1 %(turn 0%): no conversation of the tape begins with this text")
    t.match(err.message, 'from byte 8 on the tape has "Make a page in')
    t.eq(messages[#messages].is_error, true)
end)

local function request(messages, tools)
    local offered = json.array {}
    for _, name in ipairs(tools or { "Bash", "Write" }) do
        offered[#offered + 1] = { name = name }
    end
    return { model = "m", max_tokens = 1, tools = offered,
        system = "x\nWorking directory: /w\ny", messages = messages }
end

local function first_steps(input, is_error)
    return { { role = "user", content = "Make a page in /w." },
        { role = "assistant", content = content({ type = "text", text = "other words" },
            { type = "tool_use", id = "1", name = "Write", input = input }) },
        { role = "user", content = content({ type = "tool_result", tool_use_id = "1",
            content = "anything", is_error = is_error }) } }
end

t.test("matches by turn, text, tool names and inputs", function()
    local tp = tape.parse(TAPE, "test.jsonl")
    local reply = tp:match(request { { role = "user", content = " Make a page in /w.\n" } })
    t.eq(reply.content[2].input.file_path, "/w/p.txt")
    t.eq(reply.stop_reason, "tool_use")
    local good = { file_path = "/w/p.txt", content = "in /w\n" }
    local notices
    reply, notices = tp:match(request(first_steps(good, false)))
    t.eq({ reply.content[1].name, #notices }, { "Bash", 0 })
    reply, notices = tp:match(request(first_steps(good, true)))
    t.ok(reply)
    t.match(notices[1], "Write failed, which it did not when the tape was made")

    local function says(how, wrong)
        local none, text = tp:match(wrong)
        t.eq(none, nil)
        t.match(text, how)
    end
    says("step 2 %(turn 1%): tool call 1 %(Write%) of the reply before: `content` differs",
        request(first_steps { file_path = "/w/p.txt", content = "in /v\n" }))
    says("`content` is \"in /w\\n\" in the tape and missing in the request",
        request(first_steps { file_path = "/w/p.txt" }))
    says("`mode` is not in the tape",
        request(first_steps { file_path = "/w/p.txt", content = "in /w\n", mode = 1 }))
    local other = first_steps(good)
    other[2].content[2].name = "Edit"
    says("tool call 1 of the reply before is Edit, in the tape Write", request(other))
    says("calls Write, which the request does not offer",
        request({ { role = "user", content = "Make a page in /w." } }, { "Bash" }))
    local long = first_steps(good)
    for _ = 1, 4 do
        long[#long + 1] = { role = "assistant", content = "x" }
    end
    says("step 6 %(turn 5%): the tape ends after step 3", request(long))
    local bare = request { { role = "user", content = "Make a page in {{workdir}}." } }
    bare.system = nil
    says("needs a working directory", bare)
end)

t.test("two conversations in one tape", function()
    local source = lines(HEAD,
        { turn = 0, user = "one", reply = { content = content { type = "text", text = "1" } } },
        { turn = 0, user = "two", reply = { content = content { type = "text", text = "2" } } })
    local home = t.tmpdir()
    local messages = replay(source, "two", home)
    t.eq(messages[#messages].result, "2")
end)

t.test("a bad tape names the line and what is wrong", function()
    local function bad(source, how)
        local e = t.raises("invalid_argument", tape.parse, source, "x.jsonl")
        t.match(e.message, how)
    end
    local ok = { turn = 0, user = "u", reply = { content = content { type = "text",
        text = "t" } } }
    bad("", "empty")
    bad("{}\n", "x.jsonl:1: a tape begins with .* no version")
    bad("{\"tape\":2}\n", "version 2")
    bad("{\"tape\":1}\n\nnonsense\n", "x.jsonl:3: not a JSON object")
    bad(lines(HEAD, { turn = 1, reply = ok.reply }), "x.jsonl:2: turn 1 comes where turn 0")
    bad(lines(HEAD, ok, ok), "x.jsonl:3: line 2 begins a conversation with the same text")
    bad(lines(HEAD, { turn = 0, reply = ok.reply }), "`user`")
    bad(lines(HEAD, { turn = 0, user = "u", reply = { content = content() } }), "not empty")
    bad(lines(HEAD, { turn = 0, user = "u", reply = { content = content { type = "tool_use",
        name = "x", input = content(1) } } }), "`input`, an object")
    local ok2, e = pcall(tape.load, "/nowhere/x.jsonl")
    t.eq(ok2, false)
    t.match(e.message, "/nowhere/x.jsonl")
end)

t.test("takes the working directory out where it is a whole path", function()
    t.eq(tape.blank({ a = "/w/x in /w. Not /wide, /w.x or a/w; /w.", b = 1 }, "/w"),
        { a = "{{workdir}}/x in {{workdir}}. Not /wide, /w.x or a/w; {{workdir}}.", b = 1 })
    t.eq(tape.fill("{{workdir}}/x", "/a/b"), "/a/b/x")
end)

t.test("the offline model refuses what the API refuses", function()
    local httpc = require "e2b_httpc"
    local server = offline.open(tape.parse(TAPE, "test.jsonl"))
    t.cleanup(function()
        server:close()
    end)
    local function post(body, path)
        local x <close> = assert(httpc.open { method = "POST", url = server.base_url ..
            (path or "/v1/messages"), body = body, headers = { ["Connection"] = "close" } })
        local status = x:wait()
        local parts = {}
        for chunk in x.read, x do
            parts[#parts + 1] = chunk
        end
        return status, table.concat(parts)
    end
    local function refused(body, how)
        local status, text = post(type(body) == "table" and json.encode(body) or body)
        t.eq(status, 400)
        t.match(text, how)
    end
    refused("{", "not a JSON object")
    refused({ model = "m" }, "max_tokens: field required")
    refused(request(json.array {}), "at least one message")
    refused(request { { role = "user", content = " " } }, "content must not be empty")
    refused(request { { role = "assistant", content = "x" } }, "roles must alternate")
    local steps = first_steps { file_path = "x" }
    steps[3].content[1].tool_use_id = "2"
    refused(request(steps), "no tool_result for tool_use 1")
    local status, text = post("x", "/v2/else")
    t.eq(status, 404)
    t.match(text, "not_found_error")
    status, text = post(json.encode(request { { role = "user",
        content = "Make a page in /w." } }), "/prefix/v1/messages")
    t.eq(status, 200)
    local message = json.decode(text)
    t.eq({ message.model, message.stop_reason }, { "offline", "tool_use" })
    t.match(message.content[2].id, "^toolu_")
end)
