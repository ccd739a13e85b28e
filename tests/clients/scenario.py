"""The scenario of examples/first.lua and a template build, by E2B's Python SDK.
Prints the outcome as one JSON object. Only environment variables configure it."""
import json
import os
import time
import urllib.error
import urllib.request

from e2b import CommandExitException, Sandbox, Template, wait_for_port


def fetch(host, path):
    """Python does not resolve *.localhost: the engine by address, the name as Host."""
    request = urllib.request.Request(os.environ["E2B_SANDBOX_URL"] + path, headers={"Host": host})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(100):
        try:
            with opener.open(request, timeout=10) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            if error.code != 502:
                raise
            time.sleep(0.1)
    raise TimeoutError(f"{host} did not answer")


def use(sbx, out):
    r = sbx.commands.run("uname -n; id -un; echo err >&2")
    out["run"] = [r.stdout, r.stderr, r.exit_code]
    sbx.files.write("/home/user/a.txt", "héllo")
    out["read"] = sbx.files.read("/home/user/a.txt")
    out["names"] = sorted(e.name for e in sbx.files.list("/home/user"))
    out["dirs"] = [sbx.files.exists("/home/user/zz"), sbx.files.make_dir("/home/user/d"),
                   sbx.files.make_dir("/home/user/d")]
    try:
        sbx.commands.run("exit 7")
    except CommandExitException as error:
        out["exit"] = error.exit_code
    seen = []
    handle = sbx.commands.run("for i in 1 2 3; do echo $i; sleep 0.1; done", background=True)
    result = handle.wait(on_stdout=seen.append)
    out["background"] = [result.exit_code, "".join(seen)]
    sbx.commands.run("python3 -m http.server 8000", background=True)
    host = sbx.get_host(8000)
    out["host"] = host.startswith("8000-" + sbx.sandbox_id + ".")
    out["page"] = fetch(host, "/a.txt")
    sbx.set_timeout(100)
    out["running"] = sbx.is_running()


def main():
    out = {}
    sbx = Sandbox.create()
    try:
        use(sbx, out)
    finally:
        out["kill"] = sbx.kill()
    out["after"] = sbx.is_running()
    name = "client-py"
    template = (Template().from_base_image().run_cmd("echo hi > /home/user/x")
                .copy("scenario.py", "/home/user/copied")
                .set_start_cmd("python3 -m http.server 9000", wait_for_port(9000)))
    out["build"] = Template.build(template, name).name == name
    with Sandbox.create(name) as built:
        out["built"] = built.commands.run("cat x; test -s copied && echo copied").stdout
    print(json.dumps(out, sort_keys=True))


main()
