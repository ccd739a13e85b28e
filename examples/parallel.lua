-- Many sandboxes side by side: four at a time, results in the order of the items.
local e2b = require "e2b"

local words = { "red", "green", "blue", "cyan", "teal", "grey" }

local lengths = e2b.parallel(words, 4, function(word)
    local sbx <close> = e2b.Sandbox.create { allow_internet_access = false }
    return tonumber(sbx.commands:run("printf %s $WORD | wc -c", { envs = { WORD = word } }).stdout)
end)

for i, word in ipairs(words) do
    print(word, lengths[i])
end
