/**
 * Serves the tools over HTTP, in both eras of the Model Context Protocol: each request on its own, or sessions.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as LegacySessions from "./LegacySessions.js"
import * as Principals from "./Principals.js"
import * as ProtocolServer from "./ProtocolServer.js"

/** Options of `make`. */
export interface Options extends Principals.Options {
  /** The most sessions of clients that need them. */
  readonly maxSessions: number
  /** Hears what is wrong with requests. */
  readonly onError: (message: string) => void
}

/** Makes what answers requests; the scope ends all commands. The library is loaded with the first request. */
export const make = (options: Options): Effect.Effect<LegacySessions.Answer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const { tools, maxSessions, onError } = options
    const call = yield* Principals.make(options)
    const started = Effect.gen(function* () {
      const sdk = yield* ProtocolServer.loadSdk
      const maker = yield* ProtocolServer.maker(sdk)
      const sources = [options.sourceOf("")] as const
      const makeServer = (call: ProtocolServer.Offer["call"]) => maker({ sources, tools, call })
      const ofSession = yield* LegacySessions.make({ sdk, makeServer, call, maxSessions })

      /** A request on its own. */
      const alone: LegacySessions.Answer = (caller, request, parsedBody) => {
        const handler = sdk.createMcpHandler(() => makeServer((...one) => call(caller, ...one)), {
          legacy: "reject",
          onerror: ({ message }) => onError(message)
        })
        return Effect.promise(() => handler.fetch(request, { parsedBody }))
      }

      const answer: LegacySessions.Answer = (caller, request, body) =>
        Effect.flatMap(
          Effect.promise(() => sdk.isLegacyRequest(request, body)),
          (isLegacy) => (isLegacy ? ofSession : alone)(caller, request, body)
        )
      return answer
    })
    // In a fiber of its own: the first client may leave meanwhile, and the others still need it.
    const starting = Effect.forkIn(Effect.interruptible(Scope.extend(started, scope)), scope)
    const once = Effect.flatMap(yield* Effect.cached(Effect.uninterruptible(starting)), Fiber.join)
    return (caller, request, body) => Effect.flatMap(once, (answer) => answer(caller, request, body))
  })
