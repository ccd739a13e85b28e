--- A template is built again with nothing changed.
local bench = require "bench"
local Template = require "e2b.template"
local place = require "place"

return function()
    place.base()
    local context = place.folder() .. "/context"
    local fs = require "e2b_fs"
    assert(fs.mkdirs(context))
    for i = 1, 100 do
        assert(fs.write_file(("%s/file%d.txt"):format(context, i), ("line %d\n"):format(i):rep(99)))
    end
    local function template()
        return Template({ file_context_path = context }):from_base_image()
            :run_cmd("echo one > ~/one"):copy(".", "/home/user/app"):set_workdir("/home/user/app")
            :run_cmd("echo two > ~/two"):set_envs { MODE = "bench" }
    end
    local samples = bench.in_turn(bench.scaled(30, 2), {
        { name = "e2blua", ours = true, sample = function()
            return bench.timed(Template.build, template(), "bench-rebuild")
        end },
    })
    bench.figure { measure = "unchanged template rebuild (5 steps, 100 files copied)", unit = "ms",
        ours = bench.median(samples.e2blua), samples = #samples.e2blua, bound = 50,
        goal = "at most 50 ms",
        note = ("p95 %.1f ms"):format(bench.percentile(samples.e2blua, 0.95)) }
end
