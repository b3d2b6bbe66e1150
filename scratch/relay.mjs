// Compares the throughput over a rendezvous with a direct connection: node scratch/relay.mjs [MEGABYTES] [ROUNDS]
//
// Output is sent as text and as binary frames, which this project's client asks for. An uncounted first round warms up
// the code.
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import WebSocket from "ws"
import * as MemoryTuning from "../dist/command/MemoryTuning.js"
import * as RelayClient from "../dist/remote/RelayClient.js"

const bytes = Number(process.argv[2] ?? 600) * 1e6
const rounds = Number(process.argv[3] ?? 5)
const binary = fileURLToPath(new URL("../dist/bin.js", import.meta.url))
const children = []

const launch = (args, env = {}) => {
  const child = spawn(process.execPath, [binary, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env }
  })
  children.push(child)
  return child
}

const firstLine = (stream) => new Promise((resolve) => createInterface({ input: stream }).once("line", resolve))

const direct = async (url, onMessage, onBinary) => {
  const ws = new WebSocket(url, { perMessageDeflate: false })
  await new Promise((resolve, reject) => ws.once("open", resolve).once("error", reject))
  ws.on("message", (data, isBinary) => (isBinary ? onBinary(data) : onMessage(data.toString())))
  return { send: (text) => ws.send(text), close: () => ws.close() }
}

const relayed = async (url, onMessage, onBinary) => {
  let end = () => {}
  const link = await new Promise((resolve, reject) => {
    const program = Effect.gen(function* () {
      resolve(yield* RelayClient.connect(url))
      yield* Effect.promise(() => new Promise((done) => (end = done)))
    })
    Effect.runPromise(Effect.scoped(program)).catch(reject)
  })
  link.listen({ onMessage, onBinary, onDrain: () => {}, onEnd: () => {} })
  return { send: link.send, close: () => end() }
}

// This process makes as much garbage as output. With default settings, collecting it would dominate the measurement.
Effect.runSync(MemoryTuning.tuneCollector)

/** The output rate of one process, in MB/s, and the round trip of a small request, in microseconds. */
const measure = async (connect, url, binaryOutput) => {
  let onMessage = () => {}
  let seen = 0
  const onBinary = (frame) => {
    seen += frame.length - 12 - frame.readUInt16BE(2)
  }
  const link = await connect(url, (text) => onMessage(text), onBinary)
  let id = 0
  const call = (method, params) =>
    new Promise((resolve) => {
      const mine = ++id
      onMessage = (text) => {
        if (text.includes(`"id":${mine}}`) || text.startsWith(`{"id":${mine},`)) resolve(text)
      }
      link.send(JSON.stringify({ id: mine, method, params }))
    })
  await call("initialize", { clientName: "probe", resumeSessionId: null, capabilities: { binaryOutput } })
  link.send('{"method":"initialized"}')
  for (let i = 0; i < 500; i++) await call("environment/status")
  const trips = performance.now()
  for (let i = 0; i < 2000; i++) await call("environment/status")
  const tripUs = ((performance.now() - trips) / 2000) * 1000
  const started = performance.now()
  await new Promise((resolve) => {
    onMessage = (text) => {
      const at = text.indexOf('"chunk":"')
      if (at > 0) seen += Math.floor(((text.length - at - 12) * 3) / 4)
      else if (text.includes("process/closed")) resolve()
    }
    const argv = ["head", "-c", String(bytes), "/dev/zero"]
    const params = { processId: "p", argv, cwd: "/", env: { PATH: process.env.PATH }, tty: false }
    link.send(JSON.stringify({ id: ++id, method: "process/start", params }))
  })
  const rate = bytes / 1e6 / ((performance.now() - started) / 1000)
  if (Math.abs(seen - bytes) > bytes / 100) throw new Error(`${seen} of ${bytes} bytes arrived`)
  link.close()
  return { rate, tripUs }
}

try {
  const server = launch(["--listen", "ws://127.0.0.1:0"])
  const serverUrl = await firstLine(server.stdout)
  const rendezvousUrl = await firstLine(launch(["rendezvous"]).stdout)
  const executor = launch(["--remote", rendezvousUrl.replace("ws:", "http:"), "--environment-id", "probe"], {
    EXEC_SERVER_REMOTE_TOKEN: "any"
  })
  await firstLine(executor.stderr)
  await sleep(500)
  const relayUrl = `${rendezvousUrl}/cloud/environment/probe/connect?role=harness`
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]
  for (const binaryOutput of [false, true]) {
    const results = { direct: [], relay: [] }
    for (let i = 0; i <= rounds; i++) {
      results.direct.push(await measure(direct, serverUrl, binaryOutput))
      results.relay.push(await measure(relayed, relayUrl, binaryOutput))
    }
    const of = (kind, key) => median(results[kind].slice(1).map((result) => result[key]))
    const shown = (kind) =>
      `${kind} ${of(kind, "rate").toFixed(0)} MB/s, ${of(kind, "tripUs").toFixed(0)} us a round trip`
    const share = (of("relay", "rate") / of("direct", "rate")) * 100
    console.log(`${binaryOutput ? "binary" : "text"}: ${shown("direct")}; ${shown("relay")}: ${share.toFixed(0)} %`)
  }
} finally {
  for (const child of children) child.kill()
}
