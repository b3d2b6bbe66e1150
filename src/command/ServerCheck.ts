/**
 * What `doctor` asks of a server: one question for each thing that the commands need, by requests that change nothing.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import type { Params } from "../client/Api.js"
import type { ClientError, WriteRefused } from "../client/ClientError.js"
import type * as ExecClient from "../client/ExecClient.js"
import { bytesOf } from "../client/HeadTail.js"
import { isUnknownMethod } from "../client/ServerFeatures.js"
import type { Method } from "../protocol/ExecApi.js"
import { Code } from "../protocol/Failure.js"
import { ProcessId } from "../protocol/Ids.js"

/** One thing that a server may serve. */
export interface Question {
  readonly name: string
  /** What is there, where it is served. */
  readonly served: string
  /** What cannot be done where it is not. */
  readonly without: string
  /** What to do instead. */
  readonly advice: string
  /** Whether it is served. */
  readonly ask: (client: ExecClient.Shape) => Effect.Effect<boolean, ClientError | WriteRefused>
}

/** No session that was just made has it. */
const processId = ProcessId.make("doctor")

const otherServer = "use a server that serves it, such as exec-server's own"

/** Whether a server knows a method; what else it has against the request does not matter. */
const knows =
  <M extends Method>(method: M, params: Params<M>): Question["ask"] =>
  ({ call }) =>
    call(method, params).pipe(
      Effect.as(true),
      Effect.catchTag("ServerError", (error) => Effect.succeed(!isUnknownMethod(error)))
    )

/** Whether it takes a signal other than the one that the original knows. */
const signals: Question["ask"] = ({ call }) =>
  call("process/signal", { processId, signal: "SIGTERM" }).pipe(
    Effect.as(true),
    Effect.catchTag("ServerError", ({ code }) =>
      Effect.succeed(code !== Code.methodNotFound && code !== Code.invalidParams)
    )
  )

const commands: Question["ask"] = ({ startScoped }) =>
  Effect.scoped(
    Effect.gen(function* () {
      const shell = yield* startScoped({ argv: ["/bin/sh", "-c", "echo works"], cwd: "/" })
      const { exit, stdout } = yield* shell.communicate()
      return exit.exitCode === 0 && bytesOf(stdout).toString() === "works\n"
    })
  )

const handleId = "doctor"

/** All of them, in the order in which they are asked. */
export const questions: ReadonlyArray<Question> = [
  {
    name: "commands",
    served: "a shell runs",
    without: "a shell does not run, or says something else than it was told",
    advice: "look at the server's log",
    ask: commands
  },
  {
    name: "end of input",
    served: "process/closeStdin",
    without: "`run` cannot end the input of a program without a terminal",
    advice: "give programs no input (</dev/null), or --tty",
    ask: knows("process/closeStdin", { processId })
  },
  {
    name: "signals",
    served: "any signal",
    without: "not every signal can be sent: `kill` can send KILL, and INT if the server is not too old for that",
    advice: "kill -s INT, kill -s KILL",
    ask: signals
  },
  {
    name: "window size",
    served: "process/resize",
    without: "terminals have 24 rows of 80 columns, whatever the size of this one",
    advice: otherServer,
    ask: knows("process/resize", { processId, rows: 24, cols: 80 })
  },
  {
    name: "process list",
    served: "process/list",
    without: "`ps` and `attach` are not possible; `logs` is",
    advice: otherServer,
    ask: knows("process/list", {})
  },
  {
    name: "time limits",
    served: "timeoutMs, restart",
    without: "`run --timeout` is not possible",
    advice: "run timeout(1) there",
    // An unknown member is not refused: nothing but the generation tells.
    ask: ({ features }) => Effect.succeed(features.extensions)
  },
  {
    name: "sandboxes",
    served: "process/start takes a sandbox",
    without: "a sandbox would be left out: processes with one are not started",
    advice: otherServer,
    ask: ({ features }) => Effect.succeed(features.processSandbox)
  },
  {
    name: "files",
    served: "fs/readFile, fs/writeFile and what goes with them",
    without: "`cp` is not possible",
    advice: otherServer,
    ask: ({ files }) => Effect.map(files.getMetadata("/"), ({ isDirectory }) => isDirectory)
  },
  {
    name: "large files",
    served: "fs/readBlock, fs/writeBlock",
    without: "files are copied in one piece: those that go there may have 11 MiB at most",
    advice: otherServer,
    ask: (client) =>
      Effect.zipWith(
        knows("fs/readBlock", { handleId, offset: 0, len: 1 })(client),
        knows("fs/writeBlock", { handleId, offset: 0, chunk: Buffer.from("x") })(client),
        (reads, writes) => reads && writes
      )
  },
  {
    name: "http",
    served: "http/request",
    without: "no HTTP requests can be made there",
    advice: otherServer,
    // Nobody is asked: the address is none.
    ask: knows("http/request", {
      method: "GET",
      url: "none",
      headers: [],
      requestId: "doctor",
      streamResponse: false,
      redirectPolicy: "follow"
    })
  }
]
