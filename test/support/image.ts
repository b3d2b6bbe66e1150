/** Images of servers that pass through JSON, as between two versions. */
import { Buffer } from "node:buffer"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { type ImageReader, ImageWriter } from "../../src/internal/Image.js"
import { SessionRegistry } from "../../src/session/SessionRegistry.js"
import { SessionsState } from "../../src/session/SessionsState.js"

/** Reads copies of what was written: nothing is shared with the writer. */
export const readerOf = ({ sections }: ImageWriter): ImageReader => {
  const copies = sections.map((section) => Buffer.from(section))
  return {
    bytes: (index) => {
      const found = copies[index]
      if (found === undefined) throw new RangeError(`no section ${index}`)
      return found
    }
  }
}

/** A value after it was written as JSON and read again. */
export const viaJson = <A, I>(schema: Schema.Schema<A, I>, value: unknown): A =>
  Schema.decodeUnknownSync(schema)(JSON.parse(JSON.stringify(value)))

/** A frozen server. */
export interface Image {
  readonly state: SessionsState
  readonly reader: ImageReader
  readonly descriptors: ReadonlySet<number>
}

/** The state of a registry, as another version reads it; `change` is what that version has otherwise. */
export const imageOf = (
  registry: SessionRegistry["Type"],
  change: (json: unknown) => unknown = (json) => json
): Image => {
  const writer = new ImageWriter()
  const json: unknown = JSON.parse(JSON.stringify(registry.freeze(writer)))
  return {
    state: Schema.decodeUnknownSync(SessionsState)(change(json)),
    reader: readerOf(writer),
    descriptors: writer.descriptors
  }
}

/** A clock that is moved by hand, and on which nothing that waits goes on: that of a version that was replaced. */
export class StoppedClock {
  private ms = 1_000_000

  readonly clock: Clock.Clock = {
    ...Clock.make(),
    unsafeCurrentTimeMillis: () => this.ms,
    unsafeCurrentTimeNanos: () => BigInt(this.ms) * 1_000_000n,
    currentTimeMillis: Effect.sync(() => this.ms),
    currentTimeNanos: Effect.sync(() => BigInt(this.ms) * 1_000_000n),
    sleep: () => Effect.never
  }

  pass(ms: number): void {
    this.ms += ms
  }
}

/** Builds one more registry. It ends with the scope. */
export const registryOf = <R, E>(
  layer: Layer.Layer<SessionRegistry, E, R>
): Effect.Effect<SessionRegistry["Type"], E, R | Scope.Scope> =>
  Effect.map(Layer.build(Layer.fresh(layer)), (context) => Context.get(context, SessionRegistry))
