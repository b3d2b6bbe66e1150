/**
 * The probes of a server for `doctor`: one for each feature that the commands need. They leave nothing behind.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import type { Params } from "../client/Api.js"
import type { ClientError, WriteRefused } from "../client/ClientError.js"
import type * as ExecClient from "../client/ExecClient.js"
import { bytesOf } from "../client/HeadTail.js"
import { isUnknownMethod, needFiles, needHttp } from "../client/ServerFeatures.js"
import type { Method } from "../protocol/ExecApi.js"
import { Code } from "../protocol/Failure.js"
import { ProcessId } from "../protocol/Ids.js"

/** A probe for one feature of a server. */
export interface Probe {
  readonly name: string
  /** What is available, if the server has the feature. */
  readonly served: string
  /** What is not possible, if it has not. */
  readonly unserved: string
  /** What to do instead. */
  readonly advice: string
  /** Asks the server whether it has the feature. */
  readonly isServed: (client: ExecClient.Shape) => Effect.Effect<boolean, ClientError | WriteRefused>
}

/** An id that a new session does not have. */
const processId = ProcessId.make("doctor")

const otherServer = "use a server that serves it, such as exec-server's own with its default settings"

/** Whether a server knows a method. Any other error means that it does. */
const knows =
  <M extends Method>(method: M, params: Params<M>): Probe["isServed"] =>
  ({ call }) =>
    call(method, params).pipe(
      Effect.as(true),
      Effect.catchTag("ServerError", (error) => Effect.succeed(!isUnknownMethod(error)))
    )

/** Whether it accepts signals other than `interrupt`, the original's only one. */
const signals: Probe["isServed"] = ({ call }) =>
  call("process/signal", { processId, signal: "SIGTERM" }).pipe(
    Effect.as(true),
    Effect.catchTag("ServerError", ({ code }) =>
      Effect.succeed(code !== Code.methodNotFound && code !== Code.invalidParams)
    )
  )

const commands: Probe["isServed"] = ({ startScoped }) =>
  Effect.scoped(
    Effect.gen(function* () {
      const shell = yield* startScoped({ argv: ["/bin/sh", "-c", "echo works"], cwd: "/" })
      const { exit, stdout } = yield* shell.communicate()
      return exit.exitCode === 0 && bytesOf(stdout).toString() === "works\n"
    })
  )

const handleId = "doctor"

/** All probes, in order. */
export const probes: ReadonlyArray<Probe> = [
  {
    name: "commands",
    served: "a shell runs",
    unserved: "a shell does not run, or prints the wrong output",
    advice: "look at the server's log",
    isServed: commands
  },
  {
    name: "end of input",
    served: "process/closeStdin",
    unserved: "`run` cannot end the input of a program without a terminal",
    advice: "give programs no input (</dev/null), or --tty",
    isServed: knows("process/closeStdin", { processId })
  },
  {
    name: "signals",
    served: "any signal",
    unserved: "`kill` can only send KILL and, unless the server is too old, INT",
    advice: "kill -s INT, kill -s KILL",
    isServed: signals
  },
  {
    name: "window size",
    served: "process/resize",
    unserved: "terminals always have 24 rows of 80 columns",
    advice: otherServer,
    isServed: knows("process/resize", { processId, rows: 24, cols: 80 })
  },
  {
    name: "process list",
    served: "process/list",
    unserved: "`ps` and `attach` are not possible; `logs` is",
    advice: otherServer,
    isServed: knows("process/list", {})
  },
  {
    name: "time limits",
    served: "timeoutMs, restart",
    unserved: "`run --timeout` is not possible",
    advice: "run timeout(1) there",
    // Servers ignore unknown fields, so only the kind of server tells.
    isServed: ({ features }) => Effect.succeed(features.extensions)
  },
  {
    name: "sandboxes",
    served: "process/start takes a sandbox",
    unserved: "the server ignores sandboxes, so the client does not start processes with one",
    advice: otherServer,
    isServed: ({ features }) => Effect.succeed(features.processSandbox)
  },
  {
    name: "files",
    served: "fs/readFile, fs/writeFile and the like",
    unserved: "`cp` is not possible",
    advice: otherServer,
    isServed: ({ files }) => Effect.map(files.getMetadata("/"), ({ isDirectory }) => isDirectory)
  },
  {
    name: "large files",
    served: "fs/readBlock, fs/writeBlock",
    unserved: "`cp` sends each file in one message: at most 11 MiB to the server",
    advice: otherServer,
    isServed: (client) =>
      Effect.zipRight(
        needFiles(client.features),
        Effect.zipWith(
          knows("fs/readBlock", { handleId, offset: 0, len: 1 })(client),
          knows("fs/writeBlock", { handleId, offset: 0, chunk: Buffer.from("x") })(client),
          (reads, writes) => reads && writes
        )
      )
  },
  {
    name: "http",
    served: "http/request",
    unserved: "HTTP requests through the server are not possible",
    advice: otherServer,
    // Sends no HTTP request: the URL is invalid.
    isServed: (client) =>
      Effect.zipRight(
        needHttp(client.features),
        knows("http/request", {
          method: "GET",
          url: "none",
          headers: [],
          requestId: "doctor",
          streamResponse: false,
          redirectPolicy: "follow"
        })(client)
      )
  }
]
