-- Bodies of requests that are larger than what the server buffers at once.
local t = require "tests"
local httpc = require "e2b_httpc"
local httpd = require "e2b_httpd"

local function put(size, handler)
    local got
    local server = assert(httpd.listen {
        host = "127.0.0.1",
        port = 0,
        handler = function(req)
            got = handler(req)
            req:reply(200, nil, "")
        end,
    })
    t.cleanup(function()
        server:close()
    end)
    local x <close> = assert(httpc.open {
        method = "PUT",
        url = ("http://127.0.0.1:%d/"):format(server.port),
        body = ("0123456789abcdef"):rep(size // 16),
        proxy = "",
    })
    t.eq((x:wait()), 200)
    return got
end

for _, size in ipairs { 0, 16, 200000, 262144, 300000, 3000000 } do
    t.test(("body gives all of %d bytes"):format(size), { timeout = 20 }, function()
        local body = put(size, function(req)
            return t.ok(req:body())
        end)
        t.eq(#body, size // 16 * 16)
        t.ok(body == ("0123456789abcdef"):rep(size // 16))
    end)

    t.test(("read gives all of %d bytes"):format(size), { timeout = 20 }, function()
        t.eq(put(size, function(req)
            local n = 0
            for piece in function() return req:read() end do
                n = n + #piece
            end
            return n
        end), size // 16 * 16)
    end)
end

t.test("body refuses more than its limit", { timeout = 20 }, function()
    put(1000000, function(req)
        local e = t.fails("invalid_argument", req.body, req, 1000)
        t.match(e.message, "over 1000 bytes")
    end)
end)
