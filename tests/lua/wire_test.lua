--- e2b_wire: byte formats of the protocols.
local t = require "tests"
local wire = require "e2b_wire"

t.test("wire.base64 and wire.unbase64 undo each other", function()
    t.eq(wire.base64(""), "")
    t.eq(wire.base64("\0\xff~"), "AP9+")
    t.eq(wire.unbase64("AP9+"), "\0\xff~")
    t.eq(wire.unbase64("AP9-"), "\0\xff~", "URL alphabet")
    t.eq(wire.unbase64("YQ"), "a", "without padding")
    t.match(t.fails("protocol", wire.unbase64, "a*b").message, "a%*b")
    t.raises("string expected", wire.base64, 1)
    t.raises("string expected", wire.unbase64)
end)

t.test("wire.escape keeps what RFC 3986 does not reserve", function()
    t.eq(wire.escape("aZ09-._~ /?ü"), "aZ09-._~%20%2F%3F%C3%BC")
    t.raises("string expected", wire.escape, {})
end)

t.test("wire.unescape decodes, plus on request", function()
    t.eq(wire.unescape("a%20b+c"), "a b+c")
    t.eq(wire.unescape("a%20b+c", true), "a b c")
    t.eq(wire.unescape("%00"), "\0")
    t.fails("protocol", wire.unescape, "100%")
    t.fails("protocol", wire.unescape, "%g0")
    t.raises("string expected", wire.unescape)
end)

t.test("wire.utf8 repairs", function()
    t.eq(wire.utf8("é"), "é")
    t.eq(wire.utf8("a\xff\xe2\x82z"), "a\u{FFFD}\u{FFFD}z")
    t.raises("string expected", wire.utf8, 1)
end)

t.test("wire.random gives hex digits that differ", function()
    t.match(wire.random(8), "^" .. ("[0-9a-f]"):rep(16) .. "$")
    t.eq(#wire.random(1024), 2048)
    t.ok(wire.random(16) ~= wire.random(16))
    t.raises("invalid_argument", wire.random, 0)
    t.raises("invalid_argument", wire.random, 1025)
    t.raises("number expected", wire.random, "x")
end)

t.test("wire.connect makes envelopes that the reader takes, byte by byte", function()
    local bytes = wire.connect(0, "one") .. wire.connect(2, "{}") .. wire.connect(1, "")
    t.eq(bytes:sub(1, 5), "\0\0\0\0\3")
    local r, got = wire.connect_reader(), {}
    for i = 1, #bytes do
        r:feed(bytes:sub(i, i))
        local flags, payload = r:next()
        if flags then
            got[#got + 1] = {flags, payload}
        end
    end
    t.eq(got, {{0, "one"}, {2, "{}"}, {1, ""}})
    t.raises("invalid_argument", wire.connect, 4, "")
    t.raises("invalid_argument", wire.connect, -1, "")
    t.raises("string expected", wire.connect, 0)
end)

t.test("wire.connect_reader gives several messages of one feed and refuses bad ones", function()
    local r = wire.connect_reader():feed(wire.connect(0, "a") .. wire.connect(0, "b"))
    t.eq(select(2, r:next()), "a")
    t.eq(select(2, r:next()), "b")
    t.eq(r:next(), nil)
    r:feed("\8\0\0\0\0")
    t.match(t.fails("protocol", r.next, r).message, "0x08")
    t.fails("protocol", r.next, r)
    r = wire.connect_reader(10):feed(wire.connect(0, ("x"):rep(11)))
    t.match(t.fails("protocol", r.next, r).message, "limit of 10")
    t.raises("invalid_argument", wire.connect_reader, 0)
    t.raises("string expected", r.feed, r)
    t.raises("bad argument", r.next, {})
end)

t.test("wire.sse_reader joins lines and pieces", function()
    local r = wire.sse_reader()
    t.eq(r:feed("\u{FEFF}event: ping\r\nda"), {})
    t.eq(r:feed("ta: 1\r\ndata: 2\r\n\r\n: note\ndata: x\n\ndata"), {
        {event = "ping", data = "1\n2"}, {event = "message", data = "x"},
    })
    t.raises("string expected", r.feed, r, {})
end)

t.test("wire.sse_reader limits one event", function()
    local r = wire.sse_reader(10)
    t.eq(#r:feed("data: abc\n\n"), 1)
    t.match(t.fails("protocol", r.feed, r, "data: " .. ("x"):rep(20)).message, "10 bytes")
    t.fails("protocol", r.feed, r, "data: a\n\n")
    t.raises("invalid_argument", wire.sse_reader, -1)
end)
