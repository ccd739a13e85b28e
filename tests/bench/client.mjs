// As client.lua, with E2B's JavaScript SDK.
import fs from 'node:fs'
import { Sandbox } from 'e2b'

const STARTING = 32
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

function memory() {
  const text = fs.readFileSync('/proc/self/status', 'latin1')
  return ['VmHWM', 'VmRSS'].map(name => Number(text.match(new RegExp(`${name}:\\s*(\\d+)`))[1]))
}

async function sandboxForStreams(probe) {
  const sandbox = await Sandbox.create({ timeoutMs: 300_000, allowInternetAccess: false })
  await sandbox.files.write('/home/user/probe', probe)
  await sandbox.commands.run('chmod +x probe')
  return sandbox
}

async function streams(sandboxes, commands, path, tickMs) {
  const bytes = fs.readFileSync(path)
  const probe = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)
  const boxes = []
  for (let i = 0; i < sandboxes; i++) boxes.push(await sandboxForStreams(probe))
  const seen = new Array(commands).fill(0)
  const handles = []
  let next = 0
  const idle = memory()[1]
  const began = performance.now()
  const worker = async () => {
    while (next < commands) {
      const i = next++
      handles[i] = await boxes[i % sandboxes].commands.run(`exec ./probe tick ${tickMs}`,
        { background: true, timeoutMs: 0, onStdout: () => { seen[i]++ } })
    }
  }
  await Promise.all(Array.from({ length: STARTING }, worker))
  const started = (performance.now() - began) / 1000
  while (Math.min(...seen) < 2) {
    if (performance.now() - began > 150_000) throw new Error('not every command has printed two lines')
    await sleep(100)
  }
  const [peak, now] = memory()
  await Promise.all(boxes.map(box => box.kill()))
  return { peak_kb: peak, rss_kb: now, idle_kb: idle, start_s: started }
}

async function output(size) {
  const sandbox = await Sandbox.create({ allowInternetAccess: false })
  try {
    await sandbox.commands.run('true')
    let got = 0
    const began = performance.now()
    await sandbox.commands.run(`head -c ${size} /dev/zero | tr '\\0' x`,
      { onStdout: piece => { got += piece.length }, timeoutMs: 120_000 })
    const seconds = (performance.now() - began) / 1000
    if (got !== size) throw new Error('not all of the output came')
    return { seconds }
  } finally {
    await sandbox.kill()
  }
}

const [mode, ...rest] = process.argv.slice(2)
const result = mode === 'streams'
  ? await streams(Number(rest[0]), Number(rest[1]), rest[2], Number(rest[3])) : await output(Number(rest[0]))
console.log(JSON.stringify(result))
process.exit(0)
