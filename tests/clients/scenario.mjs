// The scenario of examples/first.lua and a template build, by E2B's JavaScript
// SDK. Prints the outcome as one JSON object.
import http from 'node:http'
import { CommandExitError, Sandbox, Template, waitForPort } from 'e2b'

// node does not resolve *.localhost: the engine by address, the name as Host.
const once = (host, path) => new Promise((resolve, reject) => {
  const url = new URL(process.env.E2B_SANDBOX_URL)
  http.get({ host: url.hostname, port: url.port, path, headers: { Host: host } }, answer => {
    let text = ''
    answer.setEncoding('utf8').on('data', d => { text += d })
      .on('end', () => resolve([answer.statusCode, text]))
  }).on('error', reject)
})

async function fetchPage(host, path) {
  for (let i = 0; i < 100; i++) {
    const [status, text] = await once(host, path)
    if (status === 200) return text
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  throw new Error(`${host} did not answer`)
}

async function use(sbx, out) {
  const r = await sbx.commands.run('uname -n; id -un; echo err >&2')
  out.run = [r.stdout, r.stderr, r.exitCode]
  await sbx.files.write('/home/user/a.txt', 'héllo')
  out.read = await sbx.files.read('/home/user/a.txt')
  out.names = (await sbx.files.list('/home/user')).map(e => e.name).sort()
  out.dirs = [await sbx.files.exists('/home/user/zz'), await sbx.files.makeDir('/home/user/d'),
    await sbx.files.makeDir('/home/user/d')]
  try {
    await sbx.commands.run('exit 7')
  } catch (error) {
    if (!(error instanceof CommandExitError)) throw error
    out.exit = error.exitCode
  }
  let seen = ''
  const handle = await sbx.commands.run('for i in 1 2 3; do echo $i; sleep 0.1; done',
    { background: true, onStdout: d => { seen += d } })
  out.background = [(await handle.wait()).exitCode, seen]
  await sbx.commands.run('python3 -m http.server 8000', { background: true })
  const host = sbx.getHost(8000)
  out.host = host.startsWith(`8000-${sbx.sandboxId}.`)
  out.page = await fetchPage(host, '/a.txt')
  await sbx.setTimeout(100_000)
  out.running = await sbx.isRunning()
}

const out = {}
const sbx = await Sandbox.create()
try {
  await use(sbx, out)
} finally {
  out.kill = await sbx.kill()
}
out.after = await sbx.isRunning()
const name = 'client-js'
const template = Template().fromBaseImage().runCmd('echo hi > /home/user/x')
  .copy('scenario.mjs', '/home/user/copied')
  .setStartCmd('python3 -m http.server 9000', waitForPort(9000))
out.build = (await Template.build(template, name)).name === name
const built = await Sandbox.create(name)
out.built = (await built.commands.run('cat x; test -s copied && echo copied')).stdout
await built.kill()
console.log(JSON.stringify(out))
