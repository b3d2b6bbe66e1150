/**
 * Runs the requests of one connection. A request that does not end synchronously gets a fiber, which ends with the
 * connection's scope.
 *
 * `RpcServer` of @effect/rpc uses two fibers for every request, and effects to return its exit: small requests cost
 * three times as much (`npm run bench -- --only requests`).
 *
 * @since 0.1.0
 */
import * as Headers from "@effect/platform/Headers"
import * as Rpc from "@effect/rpc/Rpc"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import { FiberGroup } from "../internal/FiberGroup.js"
import * as Immediate from "../internal/Immediate.js"
import { ExecApi } from "../protocol/ExecApi.js"
import { Code, codeOf, type Failure } from "../protocol/Failure.js"
import type { Handlers } from "./Handlers.js"
import type { Requests } from "./MethodCodecs.js"

/** How a request ended. */
export type RequestExit = Exit.Exit<unknown, Failure>

/** The error response for a request that failed. A defect is reported without its details. */
export const refusalOf = (cause: Cause.Cause<Failure>): { readonly code: number; readonly message: string } => {
  const failure = Cause.failureOption(cause)
  if (Option.isSome(failure)) return { code: codeOf(failure.value), message: failure.value.message }
  const message = Cause.isInterruptedOnly(cause) ? "the request was interrupted" : "internal error"
  return { code: Code.internal, message }
}

/** Whether a request failed with a defect, which must be logged. */
export const isDefect = (cause: Cause.Cause<Failure>): boolean =>
  !Cause.isFailure(cause) && !Cause.isInterruptedOnly(cause)

/** Wraps a handler, in its fiber. */
export type Decorate = (handler: Handler) => Handler

/** Runs requests. */
export interface Dispatcher {
  /**
   * Runs the handler of a method with its decoded payload, synchronously up to its first wait. Calls `onExit` in the
   * turn in which the handler ends, possibly before this returns.
   */
  readonly run: (
    method: Requests["_tag"],
    payload: unknown,
    onExit: (exit: RequestExit) => void,
    decorate?: Decorate
  ) => void
  /** Runs an effect that belongs to the connection but is not a request. */
  readonly fork: (effect: Effect.Effect<void>) => void
  /** The requests that run, by their methods. */
  readonly running: Pick<FiberGroup, "names" | "interrupt">
  /** Interrupts the requests that run and waits for them; later ones are interrupted at once. */
  readonly end: Effect.Effect<void>
}

/** A handler as `RpcGroup.toLayer` puts it into the context, untyped. */
interface Entry {
  readonly handler: (payload: unknown, options: unknown) => Rpc.Wrapper<Handler> | Handler
  readonly context: Context.Context<never>
}

/** The work of a handler. */
type Handler = Effect.Effect<unknown, Failure>

/** `fork` applies to all handlers. */
const unwrap = ({ uninterruptible, value }: Rpc.Wrapper<Handler>): Handler =>
  uninterruptible ? Effect.uninterruptible(value) : value

const options = { clientId: 0, headers: Headers.empty }

/**
 * The dispatcher of one connection. Its handlers get `services` besides their own context. Whoever makes it runs `end`
 * at the end of the connection.
 */
export const make = (services: Context.Context<never>): Effect.Effect<Dispatcher, never, Handlers> =>
  Effect.withFiberRuntime<Dispatcher, never, Handlers>((fiber) => {
    // The cast that joins handlers of different types in one table.
    const handlers = fiber.getFiberRef(FiberRef.currentContext).unsafeMap as Map<string, Entry>
    const waiting = new FiberGroup()
    // Only these: every request copies the context and the references that it runs with.
    const references = new Map(fiber.getFiberRefs().locals)
    references.delete(FiberRef.currentContext)
    references.delete(FiberRef.currentRuntimeFlags)
    const fiberRefs = FiberRefs.unsafeMake(references)
    const { runtimeFlags } = Runtime.defaultRuntime
    const runFork = Runtime.runFork(Runtime.make({ context: services, runtimeFlags, fiberRefs }))

    const handle = (method: Requests["_tag"], payload: unknown): Handler => {
      const entry = handlers.get(ExecApi.requests.get(method)?.key ?? "")
      if (entry === undefined) return Effect.dieMessage(`no handler for ${method}`)
      const { context, handler } = entry
      const result = handler(payload, options)
      const effect = Rpc.isWrapper(result) ? unwrap(result) : result
      return context.unsafeMap.size === 0 ? effect : Effect.provide(effect, context)
    }

    const begin = (method: Requests["_tag"], payload: unknown, decorate: Decorate | undefined): Handler => {
      if (waiting.isClosed) return Exit.interrupt(FiberId.none)
      try {
        const handler = handle(method, payload)
        return decorate === undefined ? Immediate.begin(handler, services) : decorate(handler)
      } catch (defect) {
        return Exit.die(defect)
      }
    }

    const dispatcher: Dispatcher = {
      run: (method, payload, onExit, decorate) => {
        const handler = begin(method, payload, decorate)
        if (Immediate.hasEnded(handler)) return onExit(handler)
        // Its failure is the answer to the client: for Effect's log, which would show it, it is handled.
        const fiber = runFork(Effect.exit(handler))
        const exit = fiber.unsafePoll()
        if (exit !== null) return onExit(Exit.flatten(exit))
        waiting.add(fiber, method)
        fiber.addObserver((ended) => onExit(Exit.flatten(ended)))
      },
      fork: runFork,
      running: waiting,
      end: waiting.end
    }
    return Effect.succeed(dispatcher)
  })
