// What `exec-server mcp` costs, after `npm run build`: its start beside that of the server, and its calls.
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const bin = fileURLToPath(new URL("../dist/bin.js", import.meta.url))
const rounds = 15
const calls = 300
const inFlight = 32

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
  return { request, end }
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

const { request, end } = await connect()
const times = []
for (let call = 0; call < calls; call++) {
  const from = performance.now()
  await request("tools/call", { name: "exec_command", arguments: { cmd: "true" } })
  times.push(performance.now() - from)
}
console.log(`exec_command true, p50: ${median(times).toFixed(2)} ms`)

const from = performance.now()
let left = calls * 50
const caller = async () => {
  while (left-- > 0) await request("tools/call", { name: "list_sessions", arguments: {} })
}
await Promise.all(Array.from({ length: inFlight }, caller))
console.log(`calls, ${inFlight} in flight: ${((calls * 50) / ((performance.now() - from) / 1000)).toFixed(0)}/s`)
await end()
