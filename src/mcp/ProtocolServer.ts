/**
 * A server of the Model Context Protocol: what it says about itself, the list of the tools, and their calls.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import { version } from "../internal/Package.js"
import type * as Calls from "./Calls.js"
import type { Source } from "./Machines.js"
import * as Tools from "./Tools.js"

/** The library of the protocol, once it is loaded. */
export type Sdk = typeof import("./Sdk.js")

/** How often progress is told, in milliseconds. */
const progressMs = 1000

/** The longest line that is told as progress, in characters. */
const maxProgressLine = 200

/** How long clients may keep the list of the tools, in milliseconds: it does not change. */
const listTtlMs = 3_600_000

/** What is offered to a client. */
export interface Offer {
  readonly sources: readonly [Pick<Source, "id" | "host">, ...ReadonlyArray<Pick<Source, "id" | "host">>]
  readonly tools: Tools.Selection
  /** Carries out a call; undefined if there is no such tool. */
  readonly call: Calls.Calls["call"]
}

const instructionsOf = ({ sources }: Offer): string => {
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

/** The result of a fiber, which is interrupted when the signal is aborted. */
const resultOf = <A>(fiber: Fiber.RuntimeFiber<A>, signal: AbortSignal): Promise<A> =>
  new Promise((resolve, reject) => {
    const onAbort = () => fiber.unsafeInterruptAsFork(FiberId.none)
    signal.addEventListener("abort", onAbort)
    if (signal.aborted) onAbort()
    // Called at once if it has ended: most calls take no time.
    fiber.addObserver((exit) => {
      signal.removeEventListener("abort", onAbort)
      if (Exit.isSuccess(exit)) resolve(exit.value)
      else reject(Cause.squash(exit.cause))
    })
  })

/** Loads the library of the protocol. */
export const loadSdk: Effect.Effect<Sdk> = Effect.promise(() => import("./Sdk.js"))

/**
 * The function that makes servers. The library connects each to a client, and aborts the calls that the client cancels;
 * the scope interrupts all.
 */
export const maker = ({ ProtocolError, ProtocolErrorCode, Server }: Sdk) =>
  Effect.map(FiberSet.makeRuntime<never>(), (run) => (offer: Offer) => {
    const offered = Tools.offered(offer.tools)
    const environments = offer.sources.map(({ id }) => id)
    const server = new Server(
      { name: "exec-server", version },
      {
        capabilities: { tools: {} },
        instructions: instructionsOf(offer),
        cacheHints: { "tools/list": { ttlMs: listTtlMs, cacheScope: "private" } }
      }
    )
    server.setRequestHandler("tools/list", () => ({
      tools: offered.map((tool) => Tools.describe(tool, environments))
    }))
    server.setRequestHandler("tools/call", async ({ params }, { mcpReq }) => {
      let lastLine = () => ""
      const call = offer.call(params.name, params.arguments, (progress) => {
        lastLine = progress.lastLine
      })
      if (call === undefined) {
        const names = offered.map(({ name }) => name).join(", ")
        throw new ProtocolError(ProtocolErrorCode.InvalidParams, `there is no tool ${params.name}; there are ${names}`)
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
        const { content, ...answer } = await resultOf(run(call), mcpReq.signal)
        return { ...answer, content: Array.from(content) }
      } finally {
        clearInterval(timer)
      }
    })
    return server
  })
