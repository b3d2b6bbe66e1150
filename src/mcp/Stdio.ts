/**
 * Serves the tools to one client on stdin and stdout, in both eras of the Model Context Protocol. The connection ends
 * with its input, and with it all commands.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Calls from "./Calls.js"
import * as ProtocolServer from "./ProtocolServer.js"

/** The longest message, in bytes: a file is written by an argument. */
const maxMessageBytes = 64 * 1048576

/** Serves until the input ends. */
export const serve = (options: Calls.Options): Effect.Effect<void> =>
  Effect.gen(function* () {
    const sdk = yield* ProtocolServer.loadSdk
    const makeServer = yield* ProtocolServer.maker(sdk)
    const { call } = yield* Calls.make(options)
    const ended = Deferred.unsafeMake<void>(FiberId.none)
    const transport = new sdk.StdioServerTransport(process.stdin, process.stdout, { maxBufferSize: maxMessageBytes })
    // It closes itself at the end of the input, when the output fails, and after a message that is too long.
    const close = transport.close.bind(transport)
    transport.close = async () => {
      Deferred.unsafeDone(ended, Exit.void)
      await close()
    }
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        sdk.serveStdio(() => makeServer({ ...options, call }), {
          transport,
          onerror: ({ message }) =>
            process.stderr.write(`exec-server mcp: ${message.replaceAll(/\s+/g, " ").slice(0, 500)}\n`)
        })
      ),
      (handle) => Effect.promise(() => handle.close())
    )
    yield* Deferred.await(ended)
  }).pipe(Effect.scoped)
