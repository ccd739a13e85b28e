"""As client.lua, with E2B's Python SDK."""
import asyncio
import json
import sys
import time

from e2b import AsyncSandbox, Sandbox

STARTING = 32


def memory():
    with open("/proc/self/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmHWM"].split()[0]), int(fields["VmRSS"].split()[0])


async def sandbox_for_streams(probe):
    sandbox = await AsyncSandbox.create(timeout=300, allow_internet_access=False)
    await sandbox.files.write("/home/user/probe", probe)
    await sandbox.commands.run("chmod +x probe")
    return sandbox


async def streams(sandboxes, commands, path, tick_ms):
    with open(path, "rb") as file:
        probe = file.read()
    boxes = [await sandbox_for_streams(probe) for _ in range(sandboxes)]
    seen, handles = [0] * commands, [None] * commands
    gate = asyncio.Semaphore(STARTING)

    async def follow(i):
        def count(_):
            seen[i] += 1
        async with gate:
            handles[i] = await boxes[i % sandboxes].commands.run(
                f"exec ./probe tick {tick_ms}", background=True, timeout=0, on_stdout=count)

    _, idle = memory()
    began = time.monotonic()
    await asyncio.gather(*(follow(i) for i in range(commands)))
    started = time.monotonic() - began
    while min(seen) < 2:
        if time.monotonic() - began > 150:
            raise TimeoutError("not every command has printed two lines")
        await asyncio.sleep(0.1)
    peak, now = memory()
    await asyncio.gather(*(box.kill() for box in boxes))
    return {"peak_kb": peak, "rss_kb": now, "idle_kb": idle, "start_s": started}


def output(size):
    with Sandbox.create(allow_internet_access=False) as sandbox:
        sandbox.commands.run("true")
        got = 0

        def count(piece):
            nonlocal got
            got += len(piece)
        began = time.monotonic()
        sandbox.commands.run(f"head -c {size} /dev/zero | tr '\\0' x", on_stdout=count,
                             timeout=120)
        seconds = time.monotonic() - began
        assert got == size, "not all of the output came"
        return {"seconds": seconds}


if sys.argv[1] == "streams":
    print(json.dumps(asyncio.run(streams(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4],
                                         int(sys.argv[5])))))
else:
    print(json.dumps(output(int(sys.argv[2]))))
sys.stdout.flush()
