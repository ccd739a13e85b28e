-- e2blua cp: files and folders, into a sandbox, out of it, or from one to
-- another.
local Error = require "e2b.error"
local box = require "cli.lib.box"
local copy = require "cli.lib.copy"
local main = require "cli.lib.main"

local M = {
    summary = "copies files and folders to and from sandboxes",
    text = "ID:PATH is a path in a sandbox (relative ones begin in the home folder), - is the\n" ..
        "standard input or output. A target that is a folder gets the source inside; a folder\n" ..
        "is copied with all that is in it.",
    example = "e2blua cp ./site i0abc1:/home/user/app && e2blua cp i0abc1:out.csv -",
}

function M.define(p)
    p:argument("source", "What to copy."):argname("<source>")
    p:argument("target", "Where to."):argname("<target>")
    p:option("-u --user", "Act as this user in the sandbox."):argname("<name>")
end

local function connected(place, user, known)
    if place.id then
        known[place.id] = known[place.id] or box.connect(place.id)
        place.sbx, place.user = known[place.id], user
    end
    return place
end

local function base_name(path)
    return path:gsub("/+$", ""):match("[^/]*$")
end

-- Inside the target when that is a folder.
local function settle(from, to, text)
    local kind = to.path ~= "-" and copy.kind(to)
    if kind ~= "dir" and not to.path:find("/$") then
        return kind
    end
    local name = base_name(from.path)
    if name == "" or name == "." or name == ".." or name == "-" then
        if copy.kind(from) == "dir" then
            return kind -- its contents
        end
        Error.raise("invalid_argument", ("%q is a folder, and the source has no name"):format(text),
            { remedy = "write the file's name behind it" })
    end
    to.path = to.path:gsub("/*$", "/") .. name
    return copy.kind(to)
end

function M.run(args)
    local from, to = copy.place(args.source), copy.place(args.target)
    if not from.id and not to.id then
        main.usage("cp", "neither the source nor the target is in a sandbox; write ID:PATH")
    end
    local known = {}
    connected(from, args.user, known)
    connected(to, args.user, known)
    local kind = copy.kind(from)
    if not kind then
        Error.raise("file_not_found", "there is no " .. args.source)
    end
    local there = settle(from, to, args.target)
    if kind == "file" then
        if there == "dir" then
            Error.raise("invalid_argument", ("%s is a folder"):format(to.path))
        end
        copy.file(from, to)
    else
        if there == "file" then
            Error.raise("invalid_argument", ("%s is a file, and %s a folder"):format(to.path,
                args.source))
        end
        copy.folder(from, to)
    end
    return 0
end

return M
