// What `exec-server mcp` costs on Linux, after `npm run build`: its start beside that of the server, its calls and its
// memory. On a busy machine only the processor time of a call means something.
import { execFileSync, spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const bin = fileURLToPath(new URL("../dist/bin.js", import.meta.url))
const rounds = 15
const calls = 300
const inFlight = 32
const memoryCalls = 3200

/** Calls of the run for throughput. */
const throughputCalls = calls * 50

/** Milliseconds in a tick of the clock of /proc. */
const tickMs = 1000 / Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }))

/** Processor time of a process so far, in milliseconds, without its children's. */
const cpuMs = (pid) => {
  const [, rest = ""] = /\) (.*)/.exec(readFileSync(`/proc/${pid}/stat`, "utf8")) ?? []
  const fields = rest.split(" ")
  return (Number(fields[11]) + Number(fields[12])) * tickMs
}

/** Resident memory of a process, in MB. */
const residentMb = (pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

/** Starts the command, and ends it with its input. */
const start = (...args) => {
  const child = spawn(process.execPath, [bin, ...args], { stdio: ["pipe", "pipe", "ignore"] })
  const lines = createInterface({ input: child.stdout })
  const end = () =>
    new Promise((resolve) => {
      child.once("exit", resolve)
      child.kill("SIGTERM")
    })
  return { child, lines, end }
}

const connect = async () => {
  const { child, lines, end } = start("mcp")
  const waiting = new Map()
  let last = 0
  lines.on("line", (line) => {
    const { id, result } = JSON.parse(line)
    waiting.get(id)?.(result)
  })
  const request = (method, params) =>
    new Promise((resolve) => {
      const id = ++last
      waiting.set(id, resolve)
      child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`)
    })
  const clientInfo = { name: "bench", version: "1" }
  await request("initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo })
  child.stdin.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
  return { request, end, pid: child.pid }
}

const server = async () => {
  const from = performance.now()
  const { lines, end } = start("--listen", "ws://127.0.0.1:0")
  await new Promise((resolve) => lines.once("line", resolve))
  const ms = performance.now() - from
  await end()
  return ms
}

const list = async () => {
  const from = performance.now()
  const { request, end } = await connect()
  await request("tools/list", {})
  const ms = performance.now() - from
  await end()
  return ms
}

const starts = { server: [], list: [] }
for (let round = 0; round < rounds; round++) {
  starts.server.push(await server())
  starts.list.push(await list())
}
const [serverMs, listMs] = [median(starts.server), median(starts.list)]
console.log(`start to tools/list: ${listMs.toFixed(0)} ms, ${(listMs / serverMs).toFixed(2)} times the server's start`)

const { request, end, pid } = await connect()
const exec = (cmd) => request("tools/call", { name: "exec_command", arguments: { cmd } })

/** The floor: Node starts the same shell. */
const shell = () =>
  new Promise((resolve) => {
    spawn("/bin/bash", ["-c", "true"], { stdio: ["ignore", "pipe", "pipe"] }).once("close", resolve)
  })

const timed = async (run) => {
  const from = performance.now()
  await run()
  return performance.now() - from
}

const times = { exec: [], shell: [] }
const beforeExec = cpuMs(pid)
for (let call = 0; call < calls; call++) {
  times.exec.push(await timed(() => exec("true")))
  times.shell.push(await timed(shell))
}
const cpu = ((cpuMs(pid) - beforeExec) / calls).toFixed(2)
const [execMs, shellMs] = [median(times.exec), median(times.shell)]
const floor = `${(execMs / shellMs).toFixed(2)} times Node's own start of the shell (${shellMs.toFixed(2)} ms)`
console.log(`exec_command true: p50 ${execMs.toFixed(2)} ms, ${floor}, ${cpu} ms of CPU`)

const before = residentMb(pid)
await Promise.all(
  Array.from({ length: inFlight }, async () => {
    for (let call = 0; call < memoryCalls / inFlight; call++) await exec("true")
  })
)
console.log(`memory: ${before.toFixed(0)} MB, ${residentMb(pid).toFixed(0)} MB after ${memoryCalls} more`)

/** Many calls of one tool at a time. */
const throughput = async (name, args) => {
  let left = throughputCalls
  const caller = async () => {
    while (left-- > 0) await request("tools/call", { name, arguments: args })
  }
  const beforeCalls = cpuMs(pid)
  const from = performance.now()
  await Promise.all(Array.from({ length: inFlight }, caller))
  const perSecond = throughputCalls / ((performance.now() - from) / 1000)
  const callMs = (cpuMs(pid) - beforeCalls) / throughputCalls
  const rate = `${perSecond.toFixed(0)}/s, ${callMs.toFixed(3)} ms of CPU each (${(1000 / callMs).toFixed(0)}/s of one processor)`
  console.log(`${name}, ${inFlight} in flight: ${rate}`)
}

await throughput("list_sessions", {})
const started = await request("tools/call", {
  name: "exec_command",
  arguments: { cmd: "echo ready; exec sleep 600", yield_time_ms: 0 }
})
const session_id = Number(/session_id (\d+)/.exec(started.content[0].text)?.[1])
await throughput("read_output", { session_id, yield_time_ms: 0 })
await end()
