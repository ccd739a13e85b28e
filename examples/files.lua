-- Files: write, list, read, move, remove; whole or as a stream.
local e2b = require "e2b"

local sbx <close> = e2b.Sandbox.create { allow_internet_access = false }
local files = sbx.files

files:make_dir("notes")
files:write_files {
    { path = "notes/one.txt", data = "first\n" },
    { path = "notes/two.txt", data = "second\n" },
}
files:rename("notes/two.txt", "notes/2.txt")
for _, entry in ipairs(files:list("notes")) do
    print(entry.type, entry.size, entry.name)
end
print("one.txt says " .. files:read("notes/one.txt"))

-- A large file never has to fit into memory, neither here nor there.
local left = 64
files:write("big.bin", function()
    left = left - 1
    return left >= 0 and ("x"):rep(1 << 16) or nil
end)
local size = 0
for piece in files:read("big.bin", { format = "stream" }) do
    size = size + #piece
end
print(("big.bin has %d MiB"):format(size >> 20))

files:remove("notes")
print("notes is " .. (files:exists("notes") and "still there" or "gone"))
