--- e2b_json: what goes in comes out, and what JSON cannot hold is named.
local json = require "e2b_json"
local t = require "tests"

local function round(text)
    return json.encode(t.ok(json.decode(text)))
end

t.test("json.encode sorts keys and keeps integers, null, arrays and objects apart", function()
    local text = json.encode {b = {1, 2.0, {}}, a = json.array {}, n = json.null, f = false}
    t.eq(text, '{"a":[],"b":[1,2.0,{}],"f":false,"n":null}')
    t.eq(json.encode(math.maxinteger), "9223372036854775807")
    t.eq(json.encode(math.mininteger), "-9223372036854775808")
    t.eq(json.encode(0.1), "0.1")
    t.eq(json.encode(1e300), "1e+300")
    t.eq(json.encode("x"), '"x"')
    t.eq(json.encode({["b\0x"] = 1, b = 2, a = 3}), '{"a":3,"b":2,"b\\u0000x":1}')
end)

t.test("json.encode escapes, and repairs what is not UTF-8", function()
    t.eq(json.encode('"\\\n\t\1\127/é'), '"\\"\\\\\\n\\t\\u0001\\u007f/é"')
    t.eq(json.encode("a\xffb"), '"a\u{FFFD}b"')
    t.eq(json.encode {["k\xff"] = 1}, '{"k\u{FFFD}":1}')
end)

t.test("json.encode writes pretty text", function()
    t.eq(json.encode({a = {1, 2}, b = {}, c = json.array()}, {pretty = true}),
        '{\n  "a": [\n    1,\n    2\n  ],\n  "b": {},\n  "c": []\n}')
    t.eq(json.encode({a = {1}}, {pretty = false}), '{"a":[1]}')
end)

t.test("json.encode names the place of what it refuses", function()
    local function refused(v, pattern)
        t.match(t.raises("invalid_argument", json.encode, v).message, pattern)
    end
    refused({a = {1, {x = print}}}, "a function %(at value%.a%[2%]%.x%)")
    refused({0 / 0}, "NaN %(at value%[1%]%)")
    refused(1 / 0, "infinity %(at value%)")
    refused({1, nil, 3}, "holes")
    refused({1, a = 2}, "both names and numbers")
    refused({[1.5] = 1}, "neither names nor 1%.%.n")
    refused({[true] = 1}, "neither names nor 1%.%.n")
    refused(json.array {a = 1}, "marked as an array")
    refused(io.stdout, "a userdata")
    refused(coroutine.create(print), "a thread")
    refused(nil, "json%.null")
    local loop = {}
    loop.loop = loop
    refused(loop, "200 levels")
    t.raises("bad argument", json.encode)
    t.raises("table expected", json.encode, 1, 2)
    t.match(t.raises("invalid_argument", json.encode, 1, {prety = true}).message, "prety")
    t.match(t.raises("invalid_argument", json.encode, 1, {pretty = 1}).message, "pretty")
end)

t.test("json.encode takes 200 levels", function()
    local v = 1
    for _ = 1, 200 do
        v = {v}
    end
    t.eq(json.encode(v), ("["):rep(200) .. "1" .. ("]"):rep(200))
end)

t.test("json.decode gives values that encode to the same text", function()
    for _, text in ipairs {
        "[]", "{}", "null", "true", '{"a":[],"b":{},"c":[1,2.0,null,false]}', "9223372036854775807",
        '"\\u0000x"', "[[[]]]", "-0.5",
    } do
        t.eq(round(text), text)
    end
    t.eq(math.type(json.decode("1")), "integer")
    t.eq(math.type(json.decode("1.0")), "float")
    t.eq(json.decode('"\\ud800"'), "\u{FFFD}")
    t.eq(json.decode('"\\ud83d\\ude00"'), "\u{1F600}")
    t.eq(json.decode(' {"a" : 1 } ').a, 1)
    t.eq(json.decode("null"), json.null)
end)

t.test("json.decode says where the text is wrong", function()
    for _, text in ipairs {"", "{", "[1,]", "nul", "{}x", "99999999999999999999", "1e999", "'a'"} do
        t.match(t.fails("protocol", json.decode, text).message, "line %d+, column %d+")
    end
    t.fails("protocol", json.decode, ("["):rep(100000))
    t.raises("string expected", json.decode, 1)
    t.raises("string expected", json.decode)
end)

t.test("json.array marks tables", function()
    local a = {}
    t.ok(rawequal(json.array(a), a))
    t.ok(json.is_array(a))
    t.ok(json.is_array(json.array(a)))
    t.ok(json.is_array(json.decode("[]")))
    t.ok(not json.is_array {1, 2})
    t.ok(not json.is_array("text"))
    t.ok(not json.is_array(json.decode("{}")))
    t.raises("bad argument", json.is_array)
    t.raises("table expected", json.array, 1)
    t.raises("invalid_argument", json.array, setmetatable({}, {}))
end)

t.test("json.null is the NULL that cjson knows", function()
    t.eq(json.null, require("cjson").null)
end)
