// Replaces a server again and again under load: node scratch/upgrades.mjs [--count 50] [--processes 20] [--pause 300]
// [--fill MEGABYTES]
//
// Half of the processes have terminals. Each prints numbered lines, all of which its client must get once and in order,
// and ends with a status of its own, some within an upgrade. One process hashes what it is sent meanwhile, and a client
// connects again and again. Two versions take turns. At the end come the figures: the gap is the time in which no output
// is read, `away` that in which no client is accepted. With --fill, so much output is retained when it is replaced.
import { spawn } from "node:child_process"
import { createHash, randomBytes } from "node:crypto"
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { createConnection } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Effect, Fiber, Stream } from "effect"
import WebSocket from "ws"
import { ExecClient } from "../dist/index.js"

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "50" },
    processes: { type: "string", default: "20" },
    pause: { type: "string", default: "300" },
    fill: { type: "string", default: "0" }
  }
})
const [count, processes, pauseMs, fillMb] = [values.count, values.processes, values.pause, values.fill].map(Number)

const root = fileURLToPath(new URL("..", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "upgrades-"))
const socket = join(folder, "control.sock")
process.on("exit", () => rmSync(folder, { recursive: true, force: true }))

/** A copy of what is built here, as another version. */
const copyAs = (version) => {
  const to = join(folder, version)
  cpSync(join(root, "dist"), join(to, "dist"), { recursive: true })
  const native = "src/spawn/native/build/Release"
  cpSync(join(root, native), join(to, native), { recursive: true })
  symlinkSync(join(root, "node_modules"), join(to, "node_modules"))
  const description = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
  writeFileSync(join(to, "package.json"), JSON.stringify({ ...description, version }))
  return join(to, "dist/bin.js")
}

const entries = ["1.0.0", "2.0.0"].map(copyAs)

/** Starts a server; resolves once it listens. */
const listen = async (...args) => {
  const flags = ["--listen", "ws://127.0.0.1:0", "--console", "false", ...args]
  const child = spawn(process.execPath, [entries[0], ...flags], { stdio: ["ignore", "pipe", "pipe"] })
  const url = await new Promise((resolve) => createInterface({ input: child.stdout }).once("line", resolve))
  return { child, url }
}

/** How long a server takes to listen: what a gap cannot be shorter than. */
const starts = []
for (let round = 0; round < 5; round++) {
  const from = performance.now()
  const { child } = await listen()
  starts.push(performance.now() - from)
  child.kill("SIGTERM")
  await new Promise((resolve) => child.once("exit", resolve))
}

const { child: server, url } = await listen(
  ...["--control-socket", socket, "--retained-output-bytes-per-process", "67108864"],
  ...["--retained-output-bytes-total", "268435456"]
)
let log = ""
server.stderr.on("data", (chunk) => {
  log += chunk
})
const descriptors = () => readdirSync(`/proc/${server.pid}/fd`).length
const residentMb = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))[1]) / 1024
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const upgrade = (entry) =>
  new Promise((resolve, reject) => {
    const connection = createConnection({ path: socket })
    const request = { method: "upgrade", node: process.execPath, entry, dryRun: false, deadlineMs: 30_000 }
    let text = ""
    connection.once("connect", () => connection.write(`${JSON.stringify(request)}\n`))
    connection.on("data", (chunk) => {
      text += chunk
    })
    connection.once("error", reject)
    connection.once("close", () => {
      const { upgraded, refused } = text === "" ? { refused: { message: "no answer" } } : JSON.parse(text)
      if (upgraded === undefined) reject(new Error(refused.message))
      else resolve(upgraded)
    })
  })

/** A client that connects again and again: it must never be refused. */
const prober = async (state) => {
  while (!state.stop) {
    const ws = new WebSocket(url)
    const result = await new Promise((resolve) => {
      ws.once("open", () => resolve("open"))
      ws.once("error", (error) => resolve(error.message))
    })
    state.tried++
    if (result !== "open") state.refused.push(result)
    ws.terminate()
    await sleep(25)
  }
}

const quantile = (numbers, q) => [...numbers].sort((a, b) => a - b)[Math.floor(q * (numbers.length - 1))]
const shown = (numbers) => {
  const [min, p50, p99] = [0, 0.5, 0.99].map((q) => quantile(numbers, q).toFixed(0))
  return `min ${min}, p50 ${p50}, p99 ${p99} ms`
}

const faults = []
const totals = { lines: 0, statuses: 0 }

/**
 * Prints lines until a file appears, or a number of them; then ends with a status. Perl waits without a process of its
 * own: with `sleep`, the load would be that of a hundred starts a second.
 */
const program = (name, index, stop) => {
  const limit = index % 5 === 4 ? 40 * (index + 1) : 1e9
  const end = index % 7 === 6 ? "kill -SEGV $$" : index % 7 === 5 ? "kill -TERM $$" : `exit ${(index * 13) % 256}`
  const together = index % 5 === 0 ? 100 : 5
  const pause = `select(undef, undef, undef, 0.0${1 + (index % 9)})`
  const lines = `for (1 .. ${together}) { print "${name} ", $n++, "\n" }`
  const script = `$| = 1; my $n = 0; while ($n < ${limit} && !-e "${stop}") { ${lines} ${pause} }`
  return `perl -e '${script}'; ${end}`
}

const follow = (client, index, stop) =>
  Effect.gen(function* () {
    const name = `p${index}`
    const tty = index % 2 === 1
    const child = yield* client.start({
      argv: ["sh", "-c", program(name, index, stop)],
      cwd: "/tmp",
      env: { PATH: process.env.PATH },
      tty
    })
    let rest = ""
    let next = 0
    yield* Stream.runForEach(child.output, (chunk) =>
      Effect.sync(() => {
        const lines = (rest + chunk.toString()).split(/\r?\n/)
        rest = lines.pop()
        for (const line of lines) {
          // The shell of the terminal may say how it was killed.
          if (line === `${name} ${next}`) next++
          else faults.push(`${name}: ${JSON.stringify(line.slice(0, 60))} instead of line ${next}`)
        }
      })
    )
    const exit = yield* child.closed
    totals.lines += next
    totals.statuses++
    const expected = index % 7 === 6 ? "SIGSEGV" : index % 7 === 5 ? "SIGTERM" : (index * 13) % 256
    if ((exit.signal ?? exit.exitCode) !== expected) {
      faults.push(`${name}: ended with ${JSON.stringify(exit)} instead of ${expected}`)
    }
  })

const hashed = (client, state) =>
  Effect.gen(function* () {
    const child = yield* client.start({
      argv: ["sh", "-c", "sleep 1; exec sha256sum"],
      cwd: "/tmp",
      env: { PATH: process.env.PATH },
      pipeStdin: true
    })
    const hash = createHash("sha256")
    let bytes = 0
    while (!state.stop) {
      const piece = randomBytes(100_000)
      hash.update(piece)
      bytes += piece.length
      yield* child.write(piece)
      yield* Effect.sleep(20)
    }
    const { stdout } = yield* child.communicate()
    const text = Buffer.concat([stdout.head, stdout.tail]).toString()
    if (!text.startsWith(hash.digest("hex"))) faults.push(`the input of ${bytes} bytes was not whole: ${text}`)
    return bytes
  })

const filler = (client, megabytes) =>
  Effect.forEach(
    Array.from({ length: Math.ceil(megabytes / 60) }, (_, index) => Math.min(60, megabytes - 60 * index)),
    (size) =>
      Effect.flatMap(
        client.start({
          argv: ["sh", "-c", `head -c ${size * 1e6} /dev/zero | tr '\\0' 'x'; exec sleep 1000`],
          cwd: "/tmp",
          env: { PATH: process.env.PATH }
        }),
        (child) =>
          Effect.as(
            Stream.runFoldWhile(
              child.output,
              0,
              (sum) => sum < size * 1e6,
              (sum, chunk) => sum + chunk.length
            ),
            child
          )
      ),
    { concurrency: "unbounded" }
  )

const run = Effect.gen(function* () {
  const client = yield* ExecClient.connectWebSocket({ url, clientName: "upgrades" })
  const stop = join(folder, "stop")
  const state = { stop: false, tried: 0, refused: [] }
  yield* filler(client, fillMb)
  const followed = yield* Effect.forEach(
    Array.from({ length: processes }, (_, index) => index),
    (index) => Effect.fork(follow(client, index, stop))
  )
  const hashing = yield* Effect.fork(hashed(client, state))
  const probing = prober(state)
  yield* Effect.sleep(1000)
  const before = descriptors()
  const gaps = []
  const aways = []
  for (let index = 0; index < count; index++) {
    const { gapMs, awayMs, carried } = yield* Effect.promise(() => upgrade(entries[(index + 1) % 2]))
    gaps.push(gapMs)
    aways.push(awayMs)
    if (index === 0) console.log("carried", carried)
    yield* Effect.sleep(pauseMs * (0.5 + Math.random()))
  }
  const after = descriptors()
  writeFileSync(stop, "")
  state.stop = true
  for (const fiber of followed) yield* Fiber.join(fiber)
  const bytes = yield* Fiber.join(hashing)
  yield* Effect.promise(() => probing)
  const start = quantile(starts, 0.5)
  console.log(`gap: ${shown(gaps)}; away: ${shown(aways)}`)
  console.log(`p50 of the gap: ${(quantile(gaps, 0.5) / start).toFixed(2)} times a start (${start.toFixed(0)} ms)`)
  console.log(`${totals.lines} lines, ${totals.statuses} statuses, ${bytes} bytes of input`)
  console.log(`${state.tried} connections, refused: ${state.refused.length} ${state.refused.slice(0, 3).join("; ")}`)
  console.log(`descriptors: ${before} before, ${after} after (ends included); ${Math.round(residentMb())} MB resident`)
}).pipe(Effect.scoped)

try {
  await Effect.runPromise(run)
} catch (error) {
  faults.push(String(error))
}
server.kill("SIGTERM")
await new Promise((resolve) => server.once("exit", resolve))
for (const fault of faults.slice(0, 10)) console.log(`FAULT ${fault}`)
console.log(`${faults.length} faults`)
if (faults.length > 0) console.log(log.slice(-3000))
process.exit(faults.length === 0 ? 0 : 1)
