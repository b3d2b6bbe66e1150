// What viewers cost the owner of a process: node scratch/viewers.mjs [MEGABYTES] [ROUNDS]
//
// Rounds alternate between a process without viewers, with one that never reads, and with five, of which one never
// reads. The rate is that at which the owner gets output of a terminal and of a pipe; the ratio is to the same round
// without viewers. For those who read, gaps in `seq` without a screen in their place are counted. The growth is that of
// the server's memory over all rounds of a kind.
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import WebSocket from "ws"

const bytes = Number(process.argv[2] ?? 60) * 1e6
const rounds = Number(process.argv[3] ?? 5)
const binary = fileURLToPath(new URL("../dist/bin.js", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "viewers-"))
writeFileSync(join(folder, "operator"), "operator", { mode: 0o600 })
process.on("exit", () => rmSync(folder, { recursive: true }))

const server = spawn(
  process.execPath,
  [binary, "--listen", "ws://127.0.0.1:0", "--console-token-file", join(folder, "operator")],
  { stdio: ["ignore", "pipe", "inherit"] }
)
const url = await new Promise((resolve) => createInterface({ input: server.stdout }).once("line", resolve))
const residentMb = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))[1]) / 1024

/** A connection that counts bytes of output, and calls `onMessage` for everything else. */
const connect = async (token) => {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  const ws = new WebSocket(url, { perMessageDeflate: false, headers })
  await new Promise((resolve, reject) => ws.once("open", resolve).once("error", reject))
  const client = { ws, onFrame: () => {}, onNotification: () => {} }
  const waiting = new Map()
  let id = 0
  ws.on("message", (data, isBinary) => {
    if (isBinary) return client.onFrame(data)
    const message = JSON.parse(data)
    if (message.method !== undefined) return client.onNotification(message)
    waiting.get(message.id)?.(message)
    waiting.delete(message.id)
  })
  client.send = (message) => ws.send(JSON.stringify(message))
  client.call = (method, params) =>
    new Promise((resolve, reject) => {
      waiting.set(++id, ({ result, error }) =>
        error === undefined ? resolve(result) : reject(new Error(error.message))
      )
      client.send({ id, method, params })
    })
  const capabilities = { binaryOutput: true }
  await client.call("initialize", { clientName: "probe", resumeSessionId: null, sessionTtlMs: 0, capabilities })
  client.send({ method: "initialized" })
  return client
}

/** Attaches to the process, and reads everything or nothing. */
const view = async (session, tty, reads) => {
  const client = await connect("operator")
  const from = tty ? { type: "screen" } : { type: "seq", afterSeq: 0 }
  const result = await client.call("process/attach", { session, processId: "p", from, window: 131072 })
  const { attachmentId } = result
  const seen = { bytes: 0, gaps: 0, skips: 0, closed: undefined }
  let last = result.seq
  let acknowledged = 0
  const ack = (seq) => client.send({ method: "attachment/ack", params: { attachmentId, seq } })
  client.onFrame = (frame) => {
    const seq = frame.readUInt32BE(6) * 2 ** 32 + frame.readUInt32BE(10)
    if (seq !== last + 1) seen.gaps++
    last = seq
    seen.bytes += frame.length - 14
    if (reads && seen.bytes - acknowledged >= 32768) {
      acknowledged = seen.bytes
      ack(seq)
    }
  }
  const closed = new Promise((resolve) => {
    client.onNotification = ({ method, params }) => {
      if (method === "attachment/screen") {
        seen.skips++
        if (reads) ack(params.seq)
        last = params.seq
      } else if (method === "attachment/event") {
        if (params.seq === last + 1) last = params.seq
        if (params.type === "closed") resolve()
      }
    }
  })
  ack(0)
  return { seen, closed: reads ? closed : Promise.resolve(), close: () => client.ws.terminate() }
}

/** One process, and the owner's rate in MB/s. */
const measure = async (tty, kinds) => {
  const owner = await connect()
  const { sessions } = await owner.call("session/list", {})
  const script = tty
    ? `stty raw; read line; head -c ${bytes} /dev/zero | tr '\\0' 'x'`
    : `read line; head -c ${bytes} /dev/zero`
  await owner.call("process/start", {
    ...{ processId: "p", argv: ["/bin/sh", "-c", script], cwd: "/", env: { PATH: "/usr/bin:/bin" } },
    ...{ tty, pipeStdin: !tty }
  })
  const session = sessions.find(({ own }) => own).session
  const viewers = await Promise.all(kinds.map((reads) => view(session, tty, reads)))
  let seen = 0
  const ended = new Promise((resolve) => {
    owner.onFrame = (frame) => {
      seen += frame.length - 12 - frame.readUInt16BE(2)
    }
    owner.onNotification = ({ method }) => {
      if (method === "process/closed") resolve()
    }
  })
  const started = performance.now()
  await owner.call("process/write", { processId: "p", chunk: "Cg==" })
  await ended
  const seconds = (performance.now() - started) / 1000
  if (seen < bytes) throw new Error(`the owner got ${seen} of ${bytes} bytes`)
  await Promise.all(viewers.map(({ closed }) => closed))
  for (const { close } of viewers) close()
  owner.ws.terminate()
  return { rate: bytes / 1e6 / seconds, seen: viewers.map(({ seen }) => seen) }
}

const kinds = [
  { name: "no viewers", reads: [] },
  { name: "one that never reads", reads: [false] },
  { name: "five, one never reads", reads: [true, true, true, true, false] }
]
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]

for (const tty of [false, true]) {
  const results = kinds.map(() => ({ rates: [], ratios: [], gaps: 0, skips: 0, memory: [] }))
  for (let round = 0; round <= rounds; round++) {
    let alone = 0
    for (const [index, { reads }] of kinds.entries()) {
      const { rate, seen } = await measure(tty, reads)
      if (index === 0) alone = rate
      // The first round warms up the code.
      if (round === 0) continue
      const result = results[index]
      result.rates.push(rate)
      result.ratios.push(rate / alone)
      for (const [viewer, { gaps, skips }] of seen.entries()) {
        if (reads[viewer]) result.gaps += gaps
        if (reads[viewer]) result.skips += skips
      }
      result.memory.push(residentMb())
    }
  }
  console.log(tty ? "terminal" : "pipe")
  for (const [index, { name }] of kinds.entries()) {
    const { rates, ratios, gaps, skips, memory } = results[index]
    const growth = memory.at(-1) - memory[0]
    console.log(
      `  ${name.padEnd(24)} ${median(rates).toFixed(0).padStart(5)} MB/s  ratio ${median(ratios).toFixed(2)}` +
        `  gaps ${gaps}  skips ${skips}  memory ${memory.at(-1).toFixed(0)} MB, growth ${growth.toFixed(0)} MB`
    )
  }
}
server.kill()
