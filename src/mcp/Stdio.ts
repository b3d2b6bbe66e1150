/**
 * Serves the tools to one client on stdin and stdout, in both eras of the Model Context Protocol. The connection ends
 * with its input, and with it all commands.
 *
 * @since 0.1.0
 */
import { hostname, type } from "node:os"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Runtime from "effect/Runtime"
import { version } from "../internal/Package.js"
import * as Calls from "./Calls.js"
import * as Tools from "./Tools.js"

/** The longest message, in bytes: a file is written by an argument. */
const maxMessageBytes = 64 * 1048576

/** How often progress is told, in milliseconds. */
const progressMs = 1000

/** The longest line that is told as progress, in characters. */
const maxProgressLine = 200

/** How long clients may keep the list of the tools, in milliseconds: it does not change. */
const listTtlMs = 3_600_000

/** This machine, for `Source.host`. */
export const thisMachine = (): string => `${hostname()} (${type()})`

const instructionsOf = ({ sources }: Calls.Options): string => {
  const [first] = sources
  const where =
    sources.length === 1
      ? `on ${first.host}`
      : `in the environments ${sources
          .map(({ id }) => id)
          .join(", ")
          .slice(0, 100)}`
  return (
    `Runs commands ${where.slice(0, 130)}. Commands that take longer than yield_time_ms keep running and have a session_id: ` +
    "read_output waits for them. The output of ended ones stays readable."
  )
}

/** Serves until the input ends. */
export const serve = (options: Calls.Options): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { ProtocolError, ProtocolErrorCode, Server, serveStdio, StdioServerTransport } = yield* Effect.promise(
      () => import("./Sdk.js")
    )
    const calls = yield* Calls.make(options)
    const runtime = yield* Effect.runtime()
    const ended = Deferred.unsafeMake<void>(FiberId.none)
    const environments = options.sources.map(({ id }) => id)

    const makeServer = () => {
      const server = new Server(
        { name: "exec-server", version },
        {
          capabilities: { tools: {} },
          instructions: instructionsOf(options),
          cacheHints: { "tools/list": { ttlMs: listTtlMs, cacheScope: "private" } }
        }
      )
      const tools = calls.tools.map((tool) => Tools.describe(tool, environments))
      server.setRequestHandler("tools/list", () => ({ tools }))
      server.setRequestHandler("tools/call", async ({ params }, { mcpReq }) => {
        let lastLine = () => ""
        const call = calls.call(params.name, params.arguments, (progress) => {
          lastLine = progress.lastLine
        })
        if (call === undefined) {
          const names = calls.tools.map(({ name }) => name).join(", ")
          throw new ProtocolError(
            ProtocolErrorCode.InvalidParams,
            `there is no tool ${params.name}; there are ${names}`
          )
        }
        const progressToken = mcpReq._meta?.progressToken
        const began = performance.now()
        const tell = () => {
          const progress = Math.round((performance.now() - began) / 1000)
          const message = lastLine().slice(0, maxProgressLine)
          const sent = mcpReq.notify({
            method: "notifications/progress",
            params: { progressToken: progressToken ?? 0, progress, ...(message === "" ? {} : { message }) }
          })
          // The connection may have ended.
          sent.catch(() => {})
        }
        const timer = progressToken === undefined ? undefined : setInterval(tell, progressMs)
        try {
          const exit = await Runtime.runPromiseExit(runtime)(call, { signal: mcpReq.signal })
          if (Exit.isSuccess(exit)) return { ...exit.value, content: Array.from(exit.value.content) }
          throw new Error(Cause.pretty(exit.cause))
        } finally {
          clearInterval(timer)
        }
      })
      return server
    }

    const transport = new StdioServerTransport(process.stdin, process.stdout, { maxBufferSize: maxMessageBytes })
    // It closes itself at the end of the input, when the output fails, and after a message that is too long.
    const close = transport.close.bind(transport)
    transport.close = async () => {
      Deferred.unsafeDone(ended, Exit.void)
      await close()
    }
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        serveStdio(makeServer, {
          transport,
          onerror: ({ message }) =>
            process.stderr.write(`exec-server mcp: ${message.replaceAll(/\s+/g, " ").slice(0, 500)}\n`)
        })
      ),
      (handle) => Effect.promise(() => handle.close())
    )
    yield* Deferred.await(ended)
  }).pipe(Effect.scoped)
