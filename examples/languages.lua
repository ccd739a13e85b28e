-- Running files of this machine inside a sandbox, by their language.
local e2b = require "e2b"

local function file(text)
    local path = os.tmpname()
    local f <close> = assert(io.open(path, "w"))
    f:write(text)
    return path
end

local sbx <close> = e2b.Sandbox.create { allow_internet_access = false }

local texts = {
    { "python", "import sys; print('python', sys.argv[1])" },
    { "javascript", "console.log('javascript', process.argv[2])" },
    { "bash", "echo bash $1" },
}
for _, pair in ipairs(texts) do
    local path = file(pair[2])
    io.write(sbx:run_code(pair[1], path, { args = { "works" } }).stdout)
    os.remove(path)
end

-- A file that fails raises, as a command does; its standard error is in the error.
local path = file("print(undefined)")
local ok, err = pcall(sbx.run_code, sbx, "python", path)
os.remove(path)
print(ok, err.kind, err.result.stderr:match("NameError: [^\n]*"))
