// Compares the throughput over a rendezvous, plain and encrypted, with a direct connection, and measures handshakes:
// node scratch/relay.mjs [MEGABYTES] [ROUNDS]
//
// Output is sent as text and as binary frames, which this project's client asks for. An uncounted first round warms up
// the code.
import * as Effect from "effect/Effect"
import WebSocket from "ws"
import * as MemoryTuning from "../dist/command/MemoryTuning.js"
import * as Handshake from "../dist/remote/noise/Handshake.js"
import * as KeyPair from "../dist/remote/noise/KeyPair.js"
import { encrypted, end, firstLine, launch, relayed, rendezvous } from "./relay/ends.mjs"

const bytes = Number(process.argv[2] ?? 600) * 1e6
const rounds = Number(process.argv[3] ?? 5)

/** The most that a handshake may take, in milliseconds of CPU time; with more, the status is 1. */
const maxHandshakeMs = 5

const direct = async (url, onMessage, onBinary) => {
  const ws = new WebSocket(url, { perMessageDeflate: false })
  await new Promise((resolve, reject) => ws.once("open", resolve).once("error", reject))
  ws.on("message", (data, isBinary) => (isBinary ? onBinary(data) : onMessage(data.toString())))
  return { send: (text) => ws.send(text), close: () => ws.close() }
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

/**
 * The CPU time of an executor's half of a handshake, in milliseconds: the least of several rounds, as others use the same
 * machine.
 */
const handshakeMs = () => {
  const binding = { environmentId: "probe", registrationId: "one", streamId: "two" }
  const [executor, client] = [KeyPair.generate(), KeyPair.generate()]
  const messages = Array.from({ length: 50 }, () => Handshake.initiate(binding, client, executor.public, "let me in"))
  const round = () => {
    const started = process.cpuUsage()
    for (const { message } of messages) Handshake.accept(binding, executor, message).right.answer()
    const { user, system } = process.cpuUsage(started)
    return (user + system) / 1000 / messages.length
  }
  return Math.min(...Array.from({ length: 10 }, round))
}

try {
  const lanes = {
    direct: [direct, await firstLine(launch(["--listen", "ws://127.0.0.1:0"]).stdout)],
    relay: [relayed, (await rendezvous([])).url],
    encrypted: [encrypted, (await rendezvous(["--encrypted"])).url]
  }
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]
  for (const binaryOutput of [false, true]) {
    const results = Object.fromEntries(Object.keys(lanes).map((name) => [name, []]))
    for (let i = 0; i <= rounds; i++) {
      for (const [name, [connect, url]] of Object.entries(lanes)) {
        results[name].push(await measure(connect, url, binaryOutput))
      }
    }
    const of = (name, key) => median(results[name].slice(1).map((result) => result[key]))
    const shown = Object.keys(lanes).map((name) => {
      const share = Math.round((of(name, "rate") / of("direct", "rate")) * 100)
      return `${name} ${of(name, "rate").toFixed(0)} MB/s (${share} %), ${of(name, "tripUs").toFixed(0)} us a round trip`
    })
    console.log(`${binaryOutput ? "binary" : "text"}: ${shown.join("; ")}`)
  }
  const took = handshakeMs()
  console.log(`a handshake takes the executor ${took.toFixed(1)} ms of CPU time`)
  if (took > maxHandshakeMs) {
    console.error(`that is more than ${maxHandshakeMs} ms`)
    process.exitCode = 1
  }
} finally {
  end()
}
