// A CI runner: a matrix of jobs, two at a time, each with a time limit, and a table that shows every change.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { ExecClient, HeadTail, type ProcessEvent } from "exec-server/client"
import { ExecServer, NodeServices } from "exec-server/server"

const jobs = ["a", "b"].flatMap((suite) => [
  { name: `${suite} on node 20`, script: `echo ${suite} passed` },
  { name: `${suite} on node 22`, script: `echo ${suite} failed >&2; exit 3` },
  { name: `${suite} hanging`, script: "sleep 60" }
])

/** How long a job may take, in milliseconds. */
const timeoutMs = 1500

/** The table: redrawn at each change on a terminal, one line per change elsewhere. */
class Table {
  private readonly states = new Map(jobs.map(({ name }) => [name, "waiting"]))
  private drawn = false

  set(name: string, state: string): void {
    this.states.set(name, state)
    if (!process.stdout.isTTY) {
      console.log(this.row(name, state))
      return
    }
    if (this.drawn) process.stdout.write(`\x1b[${jobs.length}A`)
    this.drawn = true
    for (const [name, state] of this.states) process.stdout.write(`\x1b[2K${this.row(name, state)}\n`)
  }

  private row(name: string, state: string): string {
    return `${name.padEnd(14)} ${state}`
  }
}

const verdict = ({ exitCode, signal, timedOut }: ProcessEvent.Exit): string => {
  if (timedOut) return `timed out after ${timeoutMs} ms`
  return exitCode === 0 ? "passed" : `failed: ${signal ?? `status ${exitCode}`}`
}

const program = Effect.gen(function* () {
  const client = yield* ExecClient.ExecClient
  const table = new Table()
  const results = yield* Effect.forEach(
    jobs,
    ({ name, script }) =>
      Effect.gen(function* () {
        yield* Effect.sync(() => table.set(name, "running"))
        const env = { PATH: "/usr/bin:/bin" }
        const job = yield* client.startScoped({ argv: ["sh", "-c", script], cwd: "/", env, timeoutMs })
        const { exit, stderr } = yield* job.communicate({ maxBytes: 65536 })
        const said = HeadTail.bytesOf(stderr).toString().trim()
        yield* Effect.sync(() => table.set(name, `${verdict(exit)}${said === "" ? "" : ` (${said})`}`))
        return exit.exitCode === 0
      }).pipe(Effect.scoped),
    { concurrency: 2 }
  )
  yield* Effect.sync(() => console.log(`${results.filter((passed) => passed).length} of ${jobs.length} passed`))
})

const client = ExecClient.layerInProcess().pipe(
  Layer.provide(ExecServer.layerSessions),
  Layer.provide(NodeServices.layer)
)

NodeRuntime.runMain(program.pipe(Effect.provide(client)))
