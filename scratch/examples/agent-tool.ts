// A tool for agents to run commands: it answers after a while with the head and tail of the output so far, and
// continues in the same process when called again.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { ExecClient, type RemoteProcess } from "exec-server/client"
import { ExecServer, NodeServices } from "exec-server/server"

/** The most bytes of output in one answer: the model reads all of them. */
const maxBytes = 200

const answer = ({ output, exit, closed }: RemoteProcess.Yielded): string => {
  const { head, tail, omittedBytes } = output
  const text = omittedBytes === 0 ? `${head}` : `${head}\n[... ${omittedBytes} bytes left out ...]\n${tail}`
  if (exit === undefined) return `${text}\n[still running; ask again, write to it, or end it]`
  return `${text}\n[exit code ${exit.exitCode}${closed ? "" : "; something still holds its output"}]`
}

const makeTool = Effect.map(ExecClient.ExecClient, (client) => {
  const sessions = new Map<number, RemoteProcess.RemoteProcess>()
  let nextId = 1
  const look = (id: number, process: RemoteProcess.RemoteProcess, duration: Duration.DurationInput) =>
    Effect.map(process.collectFor({ duration, maxBytes }), (yielded) => {
      if (yielded.closed) sessions.delete(id)
      return { id, text: answer(yielded) }
    })
  return {
    /** Runs a command; answers when it ends, or after `duration`. */
    exec: (command: string, duration: Duration.DurationInput) =>
      Effect.gen(function* () {
        const env = { PATH: "/usr/bin:/bin", TERM: "dumb" }
        const process = yield* client.start({ argv: ["sh", "-c", command], cwd: "/", env, tty: true })
        const id = nextId++
        sessions.set(id, process)
        return yield* look(id, process, duration)
      }),
    /** Types some input, possibly none, and answers like `exec`. */
    type: (id: number, input: string, duration: Duration.DurationInput) =>
      Effect.gen(function* () {
        const process = sessions.get(id)
        if (process === undefined) return { id, text: "[there is no such session]" }
        if (input !== "") yield* process.write(input)
        return yield* look(id, process, duration)
      })
  }
})

const program = Effect.gen(function* () {
  const tool = yield* makeTool
  const say = (name: string, { text }: { readonly text: string }) =>
    Effect.sync(() => console.log(`--- ${name}\n${text.replaceAll("\r", "").trim()}`))
  yield* say("a lot of output", yield* tool.exec("seq 10000", "5 seconds"))
  const asking = yield* tool.exec("printf 'name? '; read name; echo hello, $name; exit 4", "500 millis")
  yield* say("a question", asking)
  yield* say("the answer", yield* tool.type(asking.id, "world\n", "5 seconds"))
  yield* say("afterwards", yield* tool.type(asking.id, "", "100 millis"))
})

const client = ExecClient.layerInProcess().pipe(
  Layer.provide(ExecServer.layerSessions),
  Layer.provide(NodeServices.layer)
)

NodeRuntime.runMain(program.pipe(Effect.provide(client)))
