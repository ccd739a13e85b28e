-- Secrets from a .env file: they stay in this process and reach a sandbox only when they are named.
-- The .env of the script's project is loaded by itself; this one is made here.
local e2b = require "e2b"

local path = os.tmpname()
local f <close> = assert(io.open(path, "w"))
f:write('GREETING="hello, world"  # a comment\nexport SECRET=s3cr3t\n')
f:close()
e2b.load_dotenv(path)
os.remove(path)

local sbx <close> = e2b.Sandbox.create {
    allow_internet_access = false,
    envs = { GREETING = e2b.getenv("GREETING") },
}
print(sbx.commands:run('echo "$GREETING, secret: ${SECRET:-unknown}"').stdout)
print("here the secret has " .. #e2b.getenv("SECRET") .. " characters")
