---@meta e2b_engine

--- The kernel side for stdlib/engine (host/bind/engine*.c). Only the daemon and doctor load it.
---@class e2b_engine
local M = {}

---@class e2b_engine.Store
local Store = {}

---@param sql string
---@param ... any  its arguments
---@return table[]? rows  by column name
---@return integer|e2b.Error changes  or the error
function Store:query(sql, ...) end

--- Twice is fine.
function Store:close() end

---@param path string
---@return e2b_engine.Store? db
---@return e2b.Error? err
function M.store(path) end

--- A damaged state becomes `aside`, a new one has what of it can be read.
---@param path string
---@param aside string
---@return e2b_engine.Store? db
---@return integer|e2b.Error rows_or_err
function M.store_rescue(path, aside) end

--- The data plane.
---@class e2b_engine.Proxy
local Proxy = {}

---@return lightuserdata filter  for e2b_httpd.listen; the proxy must outlive the server
function Proxy:filter() end

---@param box {id: string, socket: string, access_token?: string, traffic_token?: string,
--- mask_host?: string}
function Proxy:add(box) end

--- Resets the open connections.
---@param id string
---@param starved? string how it ran out of memory, "ran out of memory (it had 1024 MiB)"
function Proxy:remove(id, starved) end

---@return integer exchanges  under way
function Proxy:open() end

--- Twice is fine.
function Proxy:close() end

---@param run_dir string
---@return e2b_engine.Proxy? proxy
---@return e2b.Error? err
function M.proxy(run_dir) end

--- A running sandbox.
---@class e2b_engine.Box
local Box = {}

---@param seconds? number
---@return string? how  "exit N", "signal N" or "ended"; nil: not yet
function Box:wait(seconds) end

---@return {pid: integer, start_time: integer, cgroup: string, missing: string, no_network?: string,
--- no_disk?: string} info  no_network, no_disk: why it has none, or no limit of it
function Box:info() end

---@return {cpu_ns: integer, memory_bytes: integer, memory_cache_bytes: integer, pids: integer,
--- oom_kills: integer}|nil usage
---@return e2b.Error? err
function Box:usage() end

--- Returns when nothing of it is left.
---@return true? ok
---@return e2b.Error? err
function Box:kill() end

--- Takes the sockets of its network from its envd, which listens on run_dir/name: of an adopted
--- one.
---@param run_dir string
---@param name string
---@param seconds number  at most 60
---@return true? ok
---@return e2b.Error? err
function Box:fetch(run_dir, name, seconds) end

--- Gives up its descriptors, for what has been killed; a wait for it ends. Twice is fine.
function Box:close() end

---@param opts {id: string, cache: string, dir: string, run_dir: string, log: string, layers:
--- string[], cgroup: string, hosts: string, resolv_conf: string, cpu_count: integer,
--- memory_bytes: integer, pids: integer, tmp_tmpfs?: boolean, disk_bytes?: integer, disks?: string}
--- layers base first; disks: folder for empty images, with disk_bytes
---@return e2b_engine.Box? box  its envd listens on run_dir/<id>.sock
---@return e2b.Error? err
function M.launch(opts) end

--- A running sandbox of an earlier engine; it has no sockets yet.
---@param identity {pid: integer, start_time: integer, cgroup: string}
---@return e2b_engine.Box? box
---@return e2b.Error? err  kind not_found: it has ended
function M.adopt(identity) end

--- Ends a sandbox of an earlier engine.
---@param identity {pid: integer, start_time: integer, cgroup: string}
---@return true? ok
---@return e2b.Error? err
function M.kill(identity) end

---@param cache string
---@param id string
---@return string? json  nil when there is no such layer, or a damaged one
---@return boolean|e2b.Error|nil unsure  to be verified; or how it is damaged
function M.layer_meta(cache, id) end

--- The tree folder/upper becomes a layer.
---@param cache string
---@param folder string
---@param upper string
---@param id string
---@param meta string  JSON
---@return true? ok
---@return e2b.Error? err
function M.layer_seal(cache, folder, upper, id, meta) end

---@param folder string
---@param name string
---@return true? ok
---@return e2b.Error? err
function M.remove_tree(folder, name) end

--- What keeps layers and templates from being collected.
---@class e2b_engine.Lease
local Lease = {}

---@param cache string
---@param items string[]
---@return true? ok
---@return e2b.Error? err
function Lease:add(cache, items) end

--- Twice is fine; collection closes it, too.
function Lease:close() end

---@param cache string
---@param name string
---@param items string[]
---@return e2b_engine.Lease? lease
---@return e2b.Error? err
function M.lease(cache, name, items) end

--- The lease's file goes, when it has ended.
---@param cache string
---@param name string
function M.lease_forget(cache, name) end

---@param cache string
---@param opts {max?: integer, dry_run?: boolean, verify?: boolean, keep?: string} max: bytes,
--- default no limit; keep: id of a layer
---@return {layers: integer, bytes: integer, gone: integer, gone_bytes: integer, leased_bytes:
--- integer, template_bytes: integer, aside: integer, aside_bytes: integer, tmp: integer,
--- checked: integer, unchecked: integer, removed: string, damaged: string}? report  ids are lines
---@return e2b.Error? err
function M.gc(cache, opts) end

--- Reads all of a layer; one without a digest on record counts as good.
---@param cache string
---@param id string
---@return true? ok
---@return e2b.Error? err
function M.layer_verify(cache, id) end

--- Waits until the layers are on the disk.
---@param cache string
---@param ids string[]
---@return true? ok
---@return e2b.Error? err
function M.layers_sync(cache, ids) end

--- Sets a damaged layer aside.
---@param cache string
---@param id string
---@return string? name  its new one in the cache
---@return e2b.Error? err
function M.layer_aside(cache, id) end

---@param cache string
---@param id string
---@return boolean was  it has been set aside
function M.layer_was_damaged(cache, id) end

--- Can the engine's things be in a folder?
---@param variable string  what the user sets to move them
---@param folder string
---@return true? ok
---@return e2b.Error? err
function M.hostfs_check(variable, folder) end

---@param folder string
---@return true? ok
---@return e2b.Error? err  of kind not_enough_space
function M.hostfs_room(folder) end

--- Can n more descriptors be opened?
---@param n integer  1 to a million
---@return boolean ok
---@return integer? open
---@return integer? limit
function M.fd_room(n) end

--- Sandboxes by their control groups prefix/ID.
---@param prefix string
---@return string? lines  "id cgroup pid start_time"; pid 0: no process is left
---@return e2b.Error? err
function M.strays(prefix) end

--- Who answers on a socket, if it is pid 1 of a sandbox.
---@param run_dir string
---@param name string
---@return integer? pid
---@return integer? start_time
function M.stray_at(run_dir, name) end

--- Makes the base image.
---@class e2b_engine.Maker
local Maker = {}

--- Waits, for minutes when the image is missing.
---@param cache string
---@return string? id  of the layer
---@return e2b.Error? err
function Maker:run(cache) end

---@return string stage
---@return integer percent  -1: unknown
function Maker:progress() end

--- Its run ends soon, with an error.
function Maker:stop() end

---@return e2b_engine.Maker
function M.image_maker() end

--- The ids that sandboxes have: of the machine's root, of a user's range, one only.
---@alias e2b_engine.Grade "root"|"range"|"one"

---@param cache string
---@param grade? e2b_engine.Grade  default this process's
---@return string? id  of the layer
function M.image_ready(cache, grade) end

---@param grade? e2b_engine.Grade
---@return string? id  of the base image's layer, made or not
---@return e2b.Error? err
function M.image_id(grade) end

--- Makes this process, which must have one thread, root of a user namespace; nothing for root.
---@return string? why  the grade is "one", or ""
---@return e2b.Error? err
function M.rootless_enter() end

--- The same, of the namespace that holds a living sandbox of an earlier engine.
---@param pid integer
---@param start_time integer
---@return true? ok
---@return e2b.Error? err
function M.rootless_join(pid, start_time) end

---@return e2b_engine.Grade
function M.rootless_grade() end

---@return true? ok
---@return e2b.Error? err
function M.probe_userns() end

---@param dir string
---@return true? ok
---@return e2b.Error? err
function M.probe_idmap(dir) end

---@return true? ok
---@return e2b.Error? err
function M.probe_nf_tables() end

--- What an ordinary user's engine would get here.
---@return {grade: e2b_engine.Grade, why: string, failed: string|nil}? found  failed: of what a
--- sandbox mounts
---@return e2b.Error? err
function M.probe_rootless() end

---@param dir string
---@return string? name  of its file system, as "ext4"
---@return e2b.Error? err
function M.probe_fs_type(dir) end

---@param dir string
---@return integer? bytes  free for this user
---@return e2b.Error? err
function M.probe_space(dir) end

--- What limits sandboxes can have here, found by a trial group.
---@return {cpu: boolean, memory: boolean, swap: boolean, pids: boolean, freeze: boolean,
--- version: integer, where: string, why?: string, remedy?: string}? offer  version: of cgroup, 0
--- none; where: in which group; why, remedy: of the first of memory, pids, cpu that cannot be had
---@return e2b.Error? err
function M.limits() end

--- How a disk of that size would be limited.
---@param bytes integer
---@param memory_bytes? integer  of the sandbox; 0: no limit
---@return "image"|"memory"|nil kind
---@return e2b.Error? err  why it cannot be, and what mends it
function M.disk_kind(bytes, memory_bytes) end

---@return integer? count  of certificate authorities beyond the distribution's
---@return e2b.Error? err
function M.extra_cas() end

--- What a sandbox may connect to; used once.
---@alias e2b_engine.Policy userdata

---@param lists {allow?: string[], deny?: string[], pins?: {host: string, port: integer}[]} pins: of
--- the machine's own proxies and mirrors, wherever they are
---@return e2b_engine.Policy? policy
---@return e2b.Error? err  kind invalid_argument, in the words of E2B
function M.egress_policy(lists) end

--- The way out of sandboxes.
---@class e2b_engine.Egress
local Egress = {}

--- The name has this address, whatever the machine's resolver says.
---@param name string
---@param ip string
---@return true? ok
---@return e2b.Error? err
function Egress:host(name, ip) end

--- Serves a sandbox; takes the sockets of the box.
---@param id string
---@param box e2b_engine.Box
---@param policy e2b_engine.Policy
---@return true? ok
---@return e2b.Error? err
function Egress:add(id, box, policy) end

--- For new connections.
---@param id string
---@param policy e2b_engine.Policy
function Egress:policy(id, policy) end

--- Resets its connections.
---@param id string
function Egress:remove(id) end

--- Gives a sandbox's name its synthetic address again: what on_name got, in that order.
---@param id string
---@param number integer
---@param name string
function Egress:name(id, number, name) end

---@param id string
---@return {refused: integer, open: integer, last: string[]}? report  last: the newest first
function Egress:report(id) end

--- Twice is fine.
function Egress:close() end

--- on_name gets each name that a sandbox has asked for and the number of its synthetic address; a
--- slot has one name at a time. Neither function may wait.
---@param opts {v6?: boolean, on_line: fun(id: string, text: string),
--- on_name: fun(id: string, slot: integer, number: integer, name: string)}
---@return e2b_engine.Egress
function M.egress(opts) end

return M
