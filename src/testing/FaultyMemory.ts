/**
 * The memory transport with faults: delayed messages, lost messages, and cut connections. Delays use Effect's clock.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Memory from "../transport/Memory.js"
import type { Transport } from "../transport/Transport.js"

/**
 * The direction of a message.
 *
 * @category models
 */
export type Direction = "toServer" | "toClient"

/**
 * What happens to a message: it arrives after a delay, or never. Messages never overtake each other.
 *
 * @category models
 */
export type Fate = { readonly delay: Duration.DurationInput } | "drop"

/**
 * Decides the fate of each message. `index` counts the messages of one direction of one connection, from 0.
 *
 * @category models
 */
export type Policy = (direction: Direction, text: string, index: number) => Fate

/**
 * Everything arrives at once.
 *
 * @category constructors
 */
export const faithful: Policy = () => ({ delay: 0 })

/**
 * Everything arrives late.
 *
 * @category constructors
 */
export const delayed =
  (delay: Duration.DurationInput): Policy =>
  () => ({ delay })

/**
 * The test's control of all connections.
 *
 * @category models
 */
export interface Shape {
  /** Sets the policy for messages from now on. */
  readonly set: (policy: Policy) => Effect.Effect<void>
  /** Cuts every connection: messages in transit are lost, and both ends are told. */
  readonly cut: Effect.Effect<void>
  /** The number of open connections. */
  readonly open: Effect.Effect<number>
}

/** One direction of a connection: the messages in transit, in order. */
class Way {
  private readonly queue: Array<string> = []
  private count = 0

  constructor(
    private readonly decide: (text: string, index: number) => Fate,
    private readonly later: (delayMs: number, then: () => void) => void,
    private readonly arrive: (text: string) => void
  ) {}

  send(text: string): void {
    const fate = this.decide(text, this.count++)
    if (fate === "drop") return
    const delayMs = Duration.toMillis(fate.delay)
    if (delayMs === 0 && this.queue.length === 0) {
      this.arrive(text)
      return
    }
    this.queue.push(text)
    // Each timer releases the oldest message, not its own, which keeps the order.
    this.later(delayMs, () => {
      const oldest = this.queue.shift()
      if (oldest !== undefined) this.arrive(oldest)
    })
  }

  lose(): void {
    this.queue.length = 0
  }
}

/**
 * A memory transport whose connections have faults.
 *
 * @category tags
 */
export class FaultyMemory extends Context.Tag("exec-server/testing/FaultyMemory")<FaultyMemory, Shape>() {
  /** A transport, its connector, and the control of its faults. Faultless until `set` or `cut`. */
  static readonly layer: Layer.Layer<FaultyMemory | Transport | Memory.Connector> = Layer.scopedContext(
    Effect.gen(function* () {
      const inner = yield* Layer.build(Memory.layer)
      const { connect } = Context.get(inner, Memory.Connector)
      const run = yield* FiberSet.makeRuntime<never>()
      const cuts = new Set<() => void>()
      let policy = faithful
      const later = (delayMs: number, then: () => void) =>
        void run(Effect.zipRight(Effect.sleep(delayMs), Effect.sync(then)))

      const faulty = (events: Memory.LinkEvents): Memory.Link => {
        let over = false
        const toClient = new Way((text, index) => policy("toClient", text, index), later, events.onMessage)
        const link = connect({
          onMessage: (text) => {
            if (!over) toClient.send(text)
          },
          onEnd: (ending) => {
            if (over) return
            over = true
            cuts.delete(cut)
            events.onEnd(ending)
          }
        })
        const toServer = new Way((text, index) => policy("toServer", text, index), later, link.send)
        const cut = () => {
          over = true
          toClient.lose()
          toServer.lose()
          link.close()
          events.onEnd(undefined)
        }
        cuts.add(cut)
        return {
          ...link,
          send: (text) => {
            if (!over) toServer.send(text)
          }
        }
      }

      return inner.pipe(
        Context.add(Memory.Connector, { connect: faulty }),
        Context.add(FaultyMemory, {
          set: (chosen) =>
            Effect.sync(() => {
              policy = chosen
            }),
          cut: Effect.sync(() => {
            const all = Array.from(cuts)
            cuts.clear()
            for (const cut of all) cut()
          }),
          open: Effect.sync(() => cuts.size)
        })
      )
    })
  )
}

/**
 * A transport, its connector, and the control of its faults. Faultless until `set` or `cut`.
 *
 * @category layers
 */
export const layer: Layer.Layer<FaultyMemory | Transport | Memory.Connector> = FaultyMemory.layer
