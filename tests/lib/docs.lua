--- The reference, made of the annotations: docs.lua OUT. One page for each module of stdlib/e2b and
--- stdlib/agent, and an index.
package.path = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/?.lua;" .. package.path

local annotations = require "annotations"
local fs = require "e2b_fs"

local function sources(dir, found)
    for _, name in ipairs(assert(fs.list(dir))) do
        local path = dir .. "/" .. name
        if fs.stat(path).type == "dir" then
            sources(path, found)
        elseif name:find("%.lua$") then
            found[#found + 1] = path
        end
    end
    return found
end

-- The comment at the head of a file.
local function head(text)
    local lines = {}
    for line in text:gmatch("([^\n]*)\n") do
        local words = line:match("^%-%- ?(.*)$")
        if not words then
            break
        end
        lines[#lines + 1] = words
    end
    return table.concat(lines, "\n")
end

-- The lines of a block by tag; lines that go on are joined.
local function parts(doc)
    local text, tags, last = {}, {}, nil
    for _, line in ipairs(doc) do
        local tag, rest = line:match("^%s*@(%w+)%s*(.*)$")
        if tag then
            last = { tag = tag, text = rest }
            tags[#tags + 1] = last
        elseif line:find("^%s*Raises ") then
            last = { tag = "raises", text = line:match("^%s*Raises (.*)$") }
            tags[#tags + 1] = last
        elseif last then
            last.text = last.text .. " " .. line:gsub("^%s+", "")
        else
            text[#text + 1] = line
        end
    end
    return table.concat(text, "\n"), tags
end

local TITLES = {
    param = "Parameter",
    ["return"] = "Returns",
    field = "Field",
    raises = "Raises",
}

local function write_tags(out, tags)
    for _, tag in ipairs(tags) do
        if TITLES[tag.tag] then
            local name, rest = tag.text:match("^(%S+)%s*(.*)$")
            if tag.tag == "return" or tag.tag == "raises" then
                out[#out + 1] = ("* %s: %s"):format(TITLES[tag.tag], tag.text)
            else
                out[#out + 1] = ("* %s `%s`: %s"):format(TITLES[tag.tag], name, rest)
            end
        end
    end
end

local function write_entry(out, e, module)
    local text, tags = parts(e.doc)
    local class = tags[1] and tags[1].tag == "class" and tags[1].text
    if e.name and e.public then
        out[#out + 1] = ("\n### %s(%s)\n"):format(
            (e.name:gsub("^M([.:])", module .. "%1")), table.concat(e.params, ", "))
    elseif class then
        out[#out + 1] = "\n## " .. class .. "\n"
    else
        return
    end
    if text ~= "" then
        out[#out + 1] = text .. "\n"
    end
    write_tags(out, tags)
end

local function page(module, text)
    local out = { "# " .. module, "", head(text) }
    for _, e in ipairs(annotations.read(text)) do
        write_entry(out, e, module)
    end
    return table.concat(out, "\n") .. "\n"
end

local function main(dir)
    assert(fs.mkdirs(dir))
    local index = { "# Reference of e2blua", "", "Made of the annotations by `make docs`.", "" }
    local count = 0
    for _, root in ipairs { "stdlib/e2b", "stdlib/agent" } do
        for _, path in ipairs(sources(root, {})) do
            local module = path:match("^stdlib/(.*)%.lua$"):gsub("/init$", ""):gsub("/", ".")
            local text = assert(fs.read_file(path))
            assert(fs.write_file(dir .. "/" .. module .. ".md", page(module, text)))
            local words = head(text):gsub("\n", " ")
            words = words:match("^(.-)%.%f[%s\0]") or words
            index[#index + 1] = ("* [%s](%s.md): %s"):format(module, module, words)
            count = count + 1
        end
    end
    assert(fs.write_file(dir .. "/index.md", table.concat(index, "\n") .. "\n"))
    print(("%d pages in %s"):format(count, dir))
end

main(arg[1] or "build/docs")
