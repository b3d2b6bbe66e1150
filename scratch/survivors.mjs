// Kills a server with SIGKILL while it runs 60 trees of processes, again and again, and counts what survives:
// npm run test:survivors -- [--runs 20] [--cgroup none] [--with-guard]
//
// 12 trees have a terminal and a descendant in a session of its own, which ignores SIGHUP and SIGTERM: the hang-up of
// the terminal ends its parents at once, and nothing that /proc says connects it with the server then. All in all there
// are 138 processes. Without cgroups the guard alone ends them. With --with-guard it is killed too, to see the count
// fail.
//
// Exits with 1 if anything has survived.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { readdirSync, readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Effect } from "effect"
import { ExecClient } from "exec-server/client"

const { values: given } = parseArgs({
  options: {
    runs: { type: "string", default: "20" },
    cgroup: { type: "string", default: "none" },
    "with-guard": { type: "boolean", default: false }
  }
})
const runs = Number(given.runs)
if (!Number.isInteger(runs) || runs < 1) throw new Error("--runs is a number above 0")

const binary = fileURLToPath(new URL("../dist/bin.js", import.meta.url))

/** How long all of it may take to start, and to end, in milliseconds. */
const growMs = 60_000
const endMs = 2000

/** The shell scripts of the trees. `mark` is a number of seconds that nothing else sleeps. */
const treesWith = (mark) =>
  Array.from({ length: 60 }, (_, index) => {
    // 4 processes, 2, and 1.
    if (index % 5 === 0) {
      return { tty: true, script: `setsid sh -c 'trap "" HUP TERM; sleep ${mark}; :' & sleep ${mark}; :` }
    }
    return { tty: index % 2 === 0, script: index % 10 === 9 ? `exec sleep ${mark}` : `sleep ${mark}; :` }
  })
const processesOfTrees = 12 * 4 + 6 + 42 * 2

const read = (pid, name) => {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "latin1")
  } catch {
    return ""
  }
}
const stateOf = (pid) => / \(.*\) (.) /s.exec(read(pid, "stat"))?.[1] ?? "X"
const runningWith = (mark) =>
  readdirSync("/proc").filter(
    (name) => /^\d+$/.test(name) && read(name, "cmdline").includes(mark) && !"ZX".includes(stateOf(name))
  )

/** Polls until so many run, and returns how many they are in the end. */
const reach = async (mark, count, withinMs) => {
  const deadline = performance.now() + withinMs
  for (;;) {
    const { length } = runningWith(mark)
    if (length === count || performance.now() >= deadline) return length
    await sleep(10)
  }
}

const guardOf = (server) =>
  readdirSync("/proc").find(
    (name) =>
      read(name, "cmdline").startsWith("exec-server-guard") &&
      Number(/ \(.*\) . (\d+) /s.exec(read(name, "stat"))?.[1]) === server
  )

/** Returns how many survive, and how long it took. */
const run = async () => {
  const flags = ["--listen", "ws://127.0.0.1:0", "--console", "false", "--control-socket", "none"]
  const server = spawn(process.execPath, [binary, ...flags, "--cgroup", given.cgroup], {
    stdio: ["ignore", "pipe", "pipe"]
  })
  let log = ""
  server.stderr.on("data", (chunk) => {
    log += chunk
  })
  const ended = once(server, "exit")
  const [url] = await Promise.race([
    once(createInterface({ input: server.stdout }), "line"),
    ended.then(() => Promise.reject(new Error(`the server has ended: ${log}`)))
  ])
  const mark = String(86_400_000 + (server.pid % 100_000))
  const load = Effect.gen(function* () {
    const client = yield* ExecClient.connectWebSocket({ url })
    for (const { script, tty } of treesWith(mark)) {
      yield* client.start({ argv: ["sh", "-c", script], cwd: "/", env: { PATH: process.env.PATH }, tty })
    }
    return yield* Effect.promise(async () => {
      const grown = await reach(mark, processesOfTrees, growMs)
      if (grown !== processesOfTrees) throw new Error(`there are ${grown} processes instead of ${processesOfTrees}`)
      const guard = guardOf(server.pid)
      const from = performance.now()
      if (given["with-guard"]) process.kill(Number(guard), "SIGKILL")
      server.kill("SIGKILL")
      await ended
      const survivors = await reach(mark, 0, endMs)
      return { survivors, ms: performance.now() - from }
    })
  })
  try {
    return await Effect.runPromise(Effect.scoped(load))
  } finally {
    server.kill("SIGKILL")
    for (const pid of runningWith(mark)) process.kill(Number(pid), "SIGKILL")
  }
}

const results = []
for (let index = 0; index < runs; index++) results.push(await run())
const clean = results.filter(({ survivors }) => survivors === 0)
const times = clean.map(({ ms }) => ms).sort((a, b) => a - b)
console.log(`nothing of ${processesOfTrees} processes survived in ${clean.length} of ${runs} runs`)
if (clean.length > 0) {
  console.log(`after ${Math.round(times[0])} to ${Math.round(times.at(-1))} ms`)
}
if (clean.length < runs) console.log(`survivors: ${results.map(({ survivors }) => survivors).join(" ")}`)
process.exit(clean.length === runs ? 0 : 1)
