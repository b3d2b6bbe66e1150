/**
 * What processes use: CPU time, memory and I/O, asked for once or sampled regularly.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import * as Stream from "effect/Stream"
import { ProcessId } from "../protocol/Ids.js"
import type { ProcessUsage, UsageSample } from "../protocol/UsageApi.js"
import type { ClientError } from "./ClientError.js"
import type { ClientSession } from "./ClientSession.js"

/** The most samples that wait for a consumer; older ones are dropped. */
const maxWaiting = 16

/**
 * What processes use.
 *
 * @category models
 */
export interface Usage {
  /** What a process and its descendants use; of the client's own session, or of another one by its handle. */
  readonly process: (processId: string, session?: string) => Effect.Effect<ProcessUsage, ClientError>
  /**
   * A sample at least once in an interval of half a second or more, of all processes that the token permits to see. A
   * slow consumer misses samples. The streams of a client share the shortest interval.
   */
  readonly samples: (interval: Duration.DurationInput) => Stream.Stream<UsageSample, ClientError>
}

/**
 * The usage that a client sees.
 *
 * @category constructors
 */
export const make = ({ ask, subscribe, watch }: Pick<ClientSession, "ask" | "subscribe" | "watch">): Usage => {
  const intervals = new Set<{ readonly ms: number }>()

  /** Asks for samples at the shortest interval that a stream wants, or for none. */
  const renew = Effect.suspend(() =>
    ask("usage/watch", {
      intervalMs: intervals.size === 0 ? null : Math.min(...Array.from(intervals, ({ ms }) => ms))
    })
  )

  return {
    process: (processId, session) => ask("process/usage", { processId: ProcessId.make(processId), session }),
    samples: (interval) =>
      Stream.asyncPush<UsageSample, ClientError>(
        (emit) =>
          Effect.gen(function* () {
            const own = { ms: Math.ceil(Duration.toMillis(interval)) }
            const unsubscribe = subscribe("usage/sample", (sample) => void emit.single(sample))
            yield* Effect.acquireRelease(
              Effect.sync(() => void intervals.add(own)),
              () =>
                Effect.suspend(() => {
                  unsubscribe()
                  intervals.delete(own)
                  // Interruptible: the connection may be lost, and its end ends the watch.
                  return Effect.forkDaemon(Effect.interruptible(Effect.ignore(renew)))
                })
            )
            const asked = Effect.catchAll(renew, (error) => Effect.sync(() => emit.fail(error)))
            const runFork = Runtime.runFork(yield* Effect.runtime<never>())
            yield* Effect.acquireRelease(
              Effect.sync(() =>
                watch((state) => {
                  // A watch ends with its connection.
                  if (state._tag === "Connected") runFork(asked)
                  if (state._tag === "Ended") emit.fail(state.error)
                })
              ),
              (unwatch) => Effect.sync(unwatch)
            )
            yield* asked
          }),
        { bufferSize: maxWaiting, strategy: "sliding" }
      )
  }
}
