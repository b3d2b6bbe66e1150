// Runs a server under a mixed load for a long time, and checks that nothing is lost and nothing stays:
// npm run soak -- --minutes 60 [--cores 0.5] [--upgrade-every 60]
//
// The load: short commands, programs that are fed, terminals, trees that are ended, programs that print for minutes,
// viewers of these, files, lost connections, and replacements of the server by `exec-server upgrade`. Each line and each
// byte is counted, and each exit status known before. Afterwards the descriptors must be as many as before, no process
// may be left, and the memory of the last half must not grow. The pauses of the load adapt, so that all of it takes half
// a core.
//
// Exits with 1, and says what failed.
import { spawn } from "node:child_process"
import { createHash, randomBytes } from "node:crypto"
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs"
import { createConnection, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Effect, Exit, Scope, Stream } from "effect"
import { ExecClient, HeadTail } from "exec-server/client"

const { values: given } = parseArgs({
  options: {
    minutes: { type: "string", default: "60" },
    cores: { type: "string", default: "0.5" },
    "upgrade-every": { type: "string", default: "60" }
  }
})
const [minutes, cores, upgradeSeconds] = [given.minutes, given.cores, given["upgrade-every"]].map(Number)
if (![minutes, cores, upgradeSeconds].every((value) => value > 0)) throw new Error("each flag is a number above 0")

const binary = fileURLToPath(new URL("../dist/bin.js", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "soak-"))
const mark = randomBytes(8).toString("hex")
writeFileSync(join(folder, "operator"), mark, { mode: 0o600 })

const failures = []
/** Notes a failure; the run goes on, as far as it can. */
const fail = (what) => {
  failures.push(what)
  if (failures.length <= 20) console.log(`FAILED ${what}`)
}
const check = (holds, what) => holds || fail(what)

const server = spawn(
  process.execPath,
  [binary, "--listen", "ws://127.0.0.1:0", "--console-token-file", join(folder, "operator")],
  { stdio: ["ignore", "pipe", "pipe"] }
)
let hasEnded = false
server.once("exit", (code, signal) => {
  if (!hasEnded) fail(`the server ended: ${signal ?? code}`)
})
const log = createInterface({ input: server.stderr })
const warnings = []
log.on("line", (line) => {
  if (/level=(ERROR|FATAL)/.test(line)) fail(`the server logged: ${line}`)
  else if (/level=WARN/.test(line)) warnings.push(line)
})
const stdout = createInterface({ input: server.stdout })
const url = await new Promise((resolve) => stdout.once("line", resolve))
const { port } = new URL(url)

// What the kernel says.

const read = (path) => {
  try {
    return readFileSync(path, "latin1")
  } catch {
    return ""
  }
}
const pids = () => readdirSync("/proc").filter((name) => /^\d+$/.test(name))
const fieldsOf = (pid) => {
  const stat = read(`/proc/${pid}/stat`)
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")
}
const residentMiB = () => Number(/VmRSS:\s+(\d+)/.exec(read(`/proc/${server.pid}/status`))?.[1] ?? 0) / 1024
const descriptors = () => {
  try {
    return readdirSync(`/proc/${server.pid}/fd`).length
  } catch {
    return 0
  }
}
const kinds = () => {
  const all = readdirSync(`/proc/${server.pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${server.pid}/fd/${fd}`).replace(/\d+/g, "N")
    } catch {
      return "gone"
    }
  })
  return Object.entries(Object.groupBy?.(all, (kind) => kind) ?? { all }).map(
    ([kind, { length }]) => `${length} ${kind}`
  )
}
const zombies = () =>
  pids().filter((pid) => {
    const [state, parent] = fieldsOf(pid)
    return state === "Z" && Number(parent) === server.pid
  })
const left = () => pids().filter((pid) => read(`/proc/${pid}/environ`).includes(`SOAK=${mark}`))
/** Seconds that the server and what it has waited for have used. */
const serverSeconds = () =>
  fieldsOf(server.pid)
    .slice(11, 15)
    .reduce((sum, ticks) => sum + Number(ticks) / 100, 0)

// Connections go through here, to be cut.

const links = new Set()
const proxy = createServer((client) => {
  const upstream = createConnection({ host: "127.0.0.1", port: Number(port) })
  const link = {
    cut: () => {
      client.destroy()
      upstream.destroy()
    }
  }
  links.add(link)
  const end = () => {
    link.cut()
    links.delete(link)
  }
  for (const [one, other] of [
    [client, upstream],
    [upstream, client]
  ]) {
    one.pipe(other)
    one.on("error", end).on("close", end)
  }
})
await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve))
const through = `ws://127.0.0.1:${proxy.address().port}`

// The load.

const run = (effect) => Effect.runPromise(effect)
const scope = await run(Scope.make())
const connect = (options = {}) =>
  run(Scope.extend(ExecClient.connectWebSocket({ url: through, clientName: "soak", ...options }), scope))
const clients = await Promise.all(Array.from({ length: 4 }, () => connect()))
const viewer = await connect({ token: mark })
const counts = {}
const count = (name, by = 1) => {
  counts[name] = (counts[name] ?? 0) + by
}

const random = (below) => Math.floor(Math.random() * below)
const one = (list) => list[random(list.length)]
/** Whether a request was cut off that the client must not repeat: it may have been carried out, or not. */
const isInDoubt = (error) => /transport disconnected/.test(error?.message)
/** Starts a process. If it is in doubt whether one was started, there is none afterwards. */
const start = async (client, argv, options = {}) => {
  const processId = randomBytes(8).toString("hex")
  const env = { PATH: "/usr/bin:/bin", SOAK: mark }
  try {
    return await run(client.start({ processId, argv, cwd: folder, env, ...options }))
  } catch (error) {
    if (isInDoubt(error)) await run(client.call("process/terminate", { processId }))
    throw error
  }
}

/** Counts the numbers that a program prints, one a line; `faults` are those that are not the next one. */
const lines = (first, what) => {
  const state = { next: first, faults: 0, rest: "" }
  state.take = (chunk) => {
    const parts = (state.rest + chunk.toString("latin1").replaceAll("\r", "")).split("\n")
    state.rest = parts.pop()
    for (const part of parts) {
      state.next ??= Number(part)
      if (part !== String(state.next)) {
        state.faults++
        if (state.faults === 1) fail(`${what}: line ${JSON.stringify(part)} in the place of ${state.next}`)
        state.next = Number(part)
      }
      state.next++
      count("lines")
    }
  }
  return state
}

const activities = {
  /** A command with much output and a status. */
  command: async () => {
    const status = random(256)
    const total = 100 + random(3000)
    const child = await start(one(clients), ["sh", "-c", `seq ${total}; exit ${status}`], { tty: random(2) === 0 })
    const seen = lines(1, "owner")
    await run(Stream.runForEach(child.output, (chunk) => Effect.sync(() => seen.take(chunk))))
    const exit = await run(child.closed)
    check(seen.next === total + 1 && seen.rest === "", `${seen.next - 1} of ${total} lines`)
    check(exit.exitCode === status, `status ${exit.exitCode} for ${status}`)
    count("commands")
  },
  /** A program that is fed: the bytes come back in their order. */
  fed: async () => {
    const bytes = randomBytes(1000 + random(400_000))
    const child = await start(one(clients), ["sha256sum"], { pipeStdin: true })
    const { stdout, exit } = await run(child.communicate({ input: bytes }))
    const sum = createHash("sha256").update(bytes).digest("hex")
    check(HeadTail.bytesOf(stdout).toString().startsWith(sum), "the input was not whole")
    check(exit.exitCode === 0, `sha256sum exited with ${exit.exitCode}`)
    count("fed", bytes.length)
  },
  /** A terminal: lines go in and come back, while its size changes. */
  terminal: async () => {
    const script = 'stty -echo; echo 0; while read n; do [ "$n" = end ] && exit 9; echo "$n"; done'
    const child = await start(one(clients), ["sh", "-c", script], { tty: true })
    const seen = lines(0, "terminal")
    const reading = run(Stream.runForEach(child.output, (chunk) => Effect.sync(() => seen.take(chunk))))
    for (let tries = 0; seen.next === 0 && tries < 600; tries++) await sleep(50)
    const total = 5 + random(20)
    for (let n = 1; n <= total; n++) {
      await run(child.write(`${n}\n`))
      if (n % 5 === 0) await run(child.resize(20 + random(40), 60 + random(100)))
      await sleep(random(50))
    }
    await run(child.write("end\n"))
    const exit = await run(child.closed)
    await reading
    check(seen.next === total + 1, `a terminal returned ${seen.next - 1} of ${total} lines`)
    check(exit.exitCode === 9, `a terminal exited with ${exit.exitCode} for 9`)
    count("terminals")
  },
  /** A tree that is ended, with descendants that have left its session. */
  tree: async () => {
    const child = await start(one(clients), ["sh", "-c", "setsid sleep 999 & sleep 999 & sleep 999"])
    await sleep(random(300))
    if (random(2) === 0) {
      const signalled = await run(child.signal("SIGTERM", "tree")).catch((error) => error)
      if (signalled !== undefined) await run(child.terminate())
      const { signal } = await run(child.closed)
      check(signalled !== undefined || signal === "SIGTERM", `the signal of a tree is ${signal}`)
      if (signalled !== undefined) throw signalled
    } else {
      await run(child.terminate())
      await run(child.closed)
    }
    count("trees")
  },
  /** Files are written, read, listed and removed. */
  files: async () => {
    const { files } = one(clients)
    const path = join(folder, randomBytes(6).toString("hex"))
    const bytes = randomBytes(random(300_000))
    await run(files.createDirectory(path))
    await run(files.writeFile(join(path, "a"), bytes))
    const same = await run(files.readFile(join(path, "a")))
    check(bytes.equals(same), "a file has other bytes than were written")
    const entries = await run(files.readDirectory(path))
    check(entries.length === 1, `a folder of one file has ${entries.length}`)
    await run(files.remove(path, { recursive: true }))
    count("files")
  },
  /** A program that prints for minutes, by its owner. */
  counter: async () => {
    const total = 6000
    const program = `$|=1; for (1..${total}) { print "$_\\n"; select(undef, undef, undef, 0.01) } exit 42`
    const child = await start(one(clients), ["perl", "-e", program], { tty: random(2) === 0 })
    counters.add(child.processId)
    const seen = lines(1, "owner")
    await run(Stream.runForEach(child.output, (chunk) => Effect.sync(() => seen.take(chunk))))
    const exit = await run(child.closed)
    counters.delete(child.processId)
    check(seen.next === total + 1, `${seen.next - 1} of ${total} lines of a counter`)
    check(exit.exitCode === 42, `a counter exited with ${exit.exitCode} for 42`)
    count("counters")
  },
  /** The same, seen by another client for some seconds. */
  viewer: async () => {
    const processes = (await run(viewer.sessions.processes())).filter(
      ({ processId, running }) => running && counters.has(processId)
    )
    if (processes.length === 0) return
    const { session, processId } = one(processes)
    const seen = lines(undefined, "viewer")
    let isWhole = false
    const take = (event) => {
      if (event._tag !== "Output") return
      // The first line may have begun before.
      if (isWhole) return seen.take(event.chunk)
      const end = event.chunk.indexOf("\n")
      isWhole = end >= 0
      if (isWhole) seen.take(event.chunk.subarray(end + 1))
    }
    const watched = viewer.sessions.watch({ session, processId, from: "live" })
    // A lost connection, and the end of the process, end the view.
    await run(
      Stream.runForEach(watched, (event) => Effect.sync(() => take(event))).pipe(
        Effect.timeoutOption(3000 + random(5000)),
        Effect.ignore
      )
    )
    count("views")
  }
}
const counters = new Set()

/** How long an activity waits between two rounds, in milliseconds, at the beginning, and how many do it at a time. */
const pauses = { command: 300, fed: 500, terminal: 500, tree: 1000, files: 500, counter: 1000, viewer: 2000 }
const widths = { counter: 3, viewer: 2, terminal: 2 }
let factor = 1
let isOver = false
const loop = async (name) => {
  while (!isOver) {
    try {
      await activities[name]()
    } catch (error) {
      if (isInDoubt(error)) count("in doubt")
      else {
        fail(`${name}: ${error?.message ?? error}`)
        await sleep(1000)
      }
    }
    for (let rest = pauses[name] * factor * (0.5 + Math.random()); rest > 0 && !isOver; rest -= 500) {
      await sleep(Math.min(rest, 500))
    }
  }
}

const cuts = async () => {
  while (!isOver) {
    await sleep(1000 + random(5000))
    const link = one([...links])
    if (isOver || link === undefined) continue
    link.cut()
    count("cuts")
  }
}

/** One replacement of the server. It is the same process afterwards. */
const upgrade = () =>
  new Promise((resolve) => {
    const argv = [binary, "upgrade", "--pid", String(server.pid)]
    const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "pipe"] })
    let said = ""
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (said += chunk))
    child.once("close", (code) => {
      if (check(code === 0, `upgrade exited with ${code}: ${said.trim()}`)) count("upgrades")
      resolve()
    })
  })
const upgrades = async () => {
  for (let next = upgradeSeconds; !isOver; next--) {
    await sleep(1000)
    if (next > 0 || isOver) continue
    next = upgradeSeconds
    await upgrade()
  }
}

// Before: everything once, so that what is loaded and opened once is there.
for (const name of ["command", "fed", "terminal", "tree", "files"]) await activities[name]()
const idle = async () => {
  for (let tries = 0; tries < 300; tries++) {
    if (left().length === 0 && zombies().length === 0) return
    await sleep(100)
  }
}
await idle()
await sleep(1000)
const before = { descriptors: descriptors(), kinds: kinds(), resident: residentMiB() }

const samples = []
const began = Date.now()
let last = { at: began, cpu: serverSeconds() + process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6 }
let used = 0
const sample = () => {
  const { user, system } = process.cpuUsage()
  const now = { at: Date.now(), cpu: serverSeconds() + (user + system) / 1e6 }
  used = ((now.cpu - last.cpu) * 1000) / (now.at - last.at)
  last = now
  factor = Math.min(50, Math.max(0.1, factor * Math.min(2, Math.max(0.7, used / cores))))
  const found = {
    minute: (now.at - began) / 60_000,
    resident: residentMiB(),
    descriptors: descriptors(),
    zombies: zombies()
  }
  samples.push(found)
  // One that is about to be waited for is gone when the next sample is taken.
  const stays = found.zombies.filter((pid) => samples.at(-2)?.zombies.includes(pid))
  check(stays.length === 0, `zombies stay: ${stays.join(", ")}`)
  return found
}
const report = () => {
  const { minute, resident, descriptors, zombies } = samples.at(-1)
  const done = Object.entries(counts).map(([name, number]) => `${number} ${name}`)
  console.log(
    `${minute.toFixed(1)} min  ${resident.toFixed(1)} MiB  ${descriptors} descriptors  ${zombies.length} zombies  ` +
      `${used.toFixed(2)} cores  ${done.join(", ")}`
  )
}
const sampling = setInterval(sample, 5000)
const reporting = setInterval(report, 60_000)

console.log(`server ${server.pid}, ${minutes} minutes`)
const load = Object.keys(activities).flatMap((name) => Array.from({ length: widths[name] ?? 1 }, () => loop(name)))
const other = [cuts(), upgrades()]
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => (isOver = true))
while (!isOver && !(server.exitCode !== null || server.signalCode !== null) && Date.now() - began < minutes * 60_000)
  await sleep(200)
isOver = true
clearInterval(sampling)
clearInterval(reporting)
const late = sleep(150_000, "late", { ref: false })
check((await Promise.race([Promise.all([...load, ...other]), late])) !== "late", "the load did not end")

// Afterwards.
await idle()
// What processes have printed is kept for half a minute.
await sleep(Math.min(40_000, minutes * 10_000))
sample()
report()
// An upgrade that takes longer than a pause delays the next one.
const due = Math.floor((minutes * 30) / upgradeSeconds)
check((counts.upgrades ?? 0) >= due, `${counts.upgrades ?? 0} upgrades; at least ${due} were due`)
check(left().length === 0, `processes are left: ${left().join(", ")}`)
check(zombies().length === 0, `${zombies().length} zombies are left`)
check(
  descriptors() <= before.descriptors,
  `${descriptors()} descriptors, ${before.descriptors} before: ${kinds()
    .filter((kind) => !before.kinds.includes(kind))
    .join(", ")}`
)
const metrics = await (
  await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { authorization: `Bearer ${mark}` } })
).text()
for (const [line, value] of metrics.matchAll(/^exec_server_invariant_violations_total\S* (\S+)$/gm)) {
  check(value === "0", line)
}
check(/^exec_server_processes_running 0$/m.test(metrics), "the server counts processes that run")

// The slope of the lowest memory of each minute, over the last half, with its standard error.
const half = samples.filter(({ minute }) => minute > samples.at(-1).minute / 2)
const lowest = new Map()
for (const { minute, resident } of half) {
  const key = Math.floor(minute)
  lowest.set(key, Math.min(resident, lowest.get(key) ?? Number.POSITIVE_INFINITY))
}
const points = [...lowest]
if (points.length < 5) console.log("too short for a slope of the memory")
else {
  const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length
  const [x, y] = [mean(points.map(([minute]) => minute)), mean(points.map(([, resident]) => resident))]
  const spread = points.reduce((sum, [minute]) => sum + (minute - x) ** 2, 0)
  const slope = points.reduce((sum, [minute, resident]) => sum + (minute - x) * (resident - y), 0) / spread
  const rest = points.reduce((sum, [minute, resident]) => sum + (resident - y - slope * (minute - x)) ** 2, 0)
  const error = Math.sqrt(rest / (points.length - 2) / spread)
  const perHour = `${(slope * 60).toFixed(2)} +- ${(error * 60).toFixed(2)} MiB an hour`
  console.log(
    `memory: ${before.resident.toFixed(1)} MiB before, ${samples.at(-1).resident.toFixed(1)} after, slope ${perHour}`
  )
  // Only what is more than chance is a leak.
  check((slope - 2 * error) * 60 < 1, `memory grows by ${perHour}`)
}
if (warnings.length > 0) console.log(`${warnings.length} warnings, the first: ${warnings[0]}`)

await Promise.race([run(Scope.close(scope, Exit.void)), sleep(5000, undefined, { ref: false })])
hasEnded = true
server.kill("SIGTERM")
const code = await Promise.race([
  new Promise((resolve) => server.once("exit", resolve)),
  sleep(20_000, "late", { ref: false })
])
check(code === 0, `the server's exit: ${code}`)
if (code === "late") server.kill("SIGKILL")
rmSync(folder, { recursive: true, force: true })
console.log(failures.length === 0 ? "nothing failed" : `${failures.length} failures, the first: ${failures[0]}`)
process.exit(failures.length === 0 ? 0 : 1)
