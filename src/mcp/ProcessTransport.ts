/**
 * A transport for clients of the Model Context Protocol to a server that runs as a remote process: one JSON message per
 * line of its stdin and stdout. It has the shape of `Transport` in the official SDK, which it does not import.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as ProcessEvent from "../client/ProcessEvent.js"
import type { RemoteProcess } from "../client/RemoteProcess.js"
import * as Lines from "../protocol/Lines.js"
import { endMs, endTree } from "./Ending.js"

/** How long a server may take to end after its input has ended, in milliseconds. */
const leaveMs = 2000

/** How much of the end of stderr is told when the server ends by itself, in bytes. */
const stderrTailBytes = 2048

/** The default `maxMessageBytes`. */
const defaultMessageBytes = 64 * 1048576

/**
 * Options of `make`.
 *
 * @category models
 */
export interface Options {
  /** The longest message that is received, and the most bytes that wait to be sent; 64 MiB. */
  readonly maxMessageBytes?: number
  /** Called with what the server writes to stderr; it is passed over by default. */
  readonly onStderr?: (chunk: Buffer) => void
}

/**
 * A transport of the official SDK. Only a client of it calls these.
 *
 * @category models
 */
export interface ProcessTransport {
  /** Begins to receive, once. */
  readonly start: () => Promise<void>
  /** Sends a message, after those before it; resolves when the executor has taken it. */
  readonly send: (message: object) => Promise<void>
  /** Ends the server: the end of its input, after 2 s SIGTERM to its tree, after 2 more SIGKILL. */
  readonly close: () => Promise<void>
  /** Called once, when the server or the connection to it has ended. */
  onclose?: (() => void) | undefined
  /** Called with what is not fatal by itself, like a line that is no message, and before an unexpected `onclose`. */
  onerror?: ((error: Error) => void) | undefined
  onmessage?: ((message: object) => void) | undefined
  /** Always undefined: a pipe has no sessions. */
  sessionId?: string | undefined
}

type Server = Pick<RemoteProcess, "events" | "write" | "closeStdin" | "closed" | "terminate">

const howItEnded = ({ exitCode, signal }: ProcessEvent.Exit): string =>
  signal === null ? `has ended with exit code ${exitCode ?? "unknown"}` : `was ended by ${signal}`

const messageOf = (line: string): object | string => {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === "object" && value !== null ? value : "it is no object"
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

/**
 * Makes the transport of a process that was started with `pipeStdin` and without `tty`. The end of the scope closes it.
 *
 * @category constructors
 */
export const make = (
  process: Server,
  { maxMessageBytes = defaultMessageBytes, onStderr }: Options = {}
): Effect.Effect<ProcessTransport, never, Scope.Scope> =>
  Effect.gen(function* () {
    const run = yield* FiberSet.makeRuntimePromise<never>()
    let state: "new" | "open" | "closing" | "closed" = "new"
    let unsentBytes = 0
    let exit: ProcessEvent.Exit | undefined
    let stderrTail = Buffer.alloc(0)

    const report = (message: string) => transport.onerror?.(new Error(message))

    const receive = (line: string) => {
      const message = messageOf(line)
      if (typeof message === "string") return report(`a line of the MCP server is no message: ${message}`)
      try {
        transport.onmessage?.(message)
      } catch (error) {
        transport.onerror?.(error instanceof Error ? error : new Error(String(error)))
      }
    }

    const split = Lines.make(maxMessageBytes, {
      onLine: receive,
      onBadLine: (why) => report(`a message of the MCP server is lost: ${why}`)
    })

    /** Takes an event; returns why the connection is of no use any more. */
    const accept = (event: ProcessEvent.ProcessEvent): string | undefined => {
      switch (event._tag) {
        case "Output":
          if (event.stream === "pty") return "the MCP server has a terminal: start it with pipeStdin and without tty"
          if (event.stream === "stdout") split(event.chunk)
          else {
            stderrTail = Buffer.concat([stderrTail, event.chunk]).subarray(-stderrTailBytes)
            onStderr?.(event.chunk)
          }
          return undefined
        case "Missed":
          return `${event.bytes} bytes of the MCP server were lost on the way`
        case "Exited":
          exit = event
          return undefined
        case "Restarted":
          return "the MCP server was started again"
        case "Closed":
          return undefined
      }
    }

    const over = () => {
      if (state === "closed") return
      const isExpected = state === "closing"
      state = "closed"
      if (!isExpected && exit !== undefined) {
        const said = stderrTail.toString().trim()
        report(`the MCP server ${howItEnded(exit)}${said === "" ? "" : `: ${said}`}`)
      }
      transport.onclose?.()
    }

    const leave = Effect.zipRight(
      process.closeStdin,
      Effect.timeoutFail(process.closed, {
        duration: leaveMs,
        onTimeout: () => new Error("the MCP server goes on after the end of its input")
      })
    )

    /** Ends the process and the transport. */
    const end = yield* Effect.cached(
      Effect.suspend(() => {
        if (state === "closed") return Effect.void
        state = "closing"
        const killed = Effect.zipRight(endTree(process), Effect.ignore(Effect.timeout(process.closed, endMs)))
        return Effect.zipRight(
          Effect.catchAll(leave, () => killed),
          Effect.sync(over)
        )
      })
    )

    const follow = Stream.runForEach(process.events, (event) => {
      const fault = accept(event)
      return fault === undefined ? Effect.void : Effect.fail(new Error(fault))
    }).pipe(
      Effect.matchEffect({
        onSuccess: () => Effect.sync(over),
        onFailure: (error) =>
          Effect.suspend(() => {
            if (state === "open") transport.onerror?.(error)
            return end
          })
      })
    )

    const transport: ProcessTransport = {
      start: async () => {
        if (state !== "new") throw new Error("the transport was started already; connect() of a client does it")
        state = "open"
        run(follow).catch(() => {})
      },
      send: async (message) => {
        if (state !== "open") throw new Error("the MCP server is not connected")
        const line = Buffer.from(`${JSON.stringify(message)}\n`)
        // One message may be of any size: the executor takes it in pieces.
        if (unsentBytes > 0 && unsentBytes + line.length > maxMessageBytes) {
          throw new Error(`more than ${maxMessageBytes} bytes (maxMessageBytes) wait to be sent; wait for send()`)
        }
        unsentBytes += line.length
        await run(process.write(line)).finally(() => {
          unsentBytes -= line.length
        })
      },
      close: () => run(end)
    }

    yield* Effect.addFinalizer(() => Effect.interruptible(end))
    return transport
  })
