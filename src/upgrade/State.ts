/**
 * The state of a server, as one version hands it to another: a common part, and the states of its parts by their names.
 *
 * A version also meets states of the version after it (a new version has failed, and the one before is back; or it is
 * put back on purpose) and of the version before it. So members are only added, and are optional where they are read;
 * unknown members and parts are ignored; and what a reader cannot do without raises `readableFrom`.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { fstatSync } from "node:fs"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import type { ImageReader, ImageWriter } from "../internal/Image.js"
import * as Container from "./Container.js"
import * as Wire from "./Wire.js"

/** The format that this version writes. */
export const format = 1

/** A descriptor, and what tells it from another one that has got its number later. */
export const Descriptor = Schema.Struct({ fd: Schema.NonNegativeInt, dev: Schema.String, ino: Schema.String })

/** What all versions read. */
export const State = Schema.Struct({
  /** The format of the writer. */
  format: Schema.NonNegativeInt,
  /** The oldest format whose readers can restore it. */
  readableFrom: Schema.NonNegativeInt,
  /** The version that has written it. */
  version: Schema.String,
  /** The version that is to read it. */
  successor: Schema.optionalWith(Schema.String, { default: () => "" }),
  /** When the last output was read, in nanoseconds of the monotonic clock. */
  frozenAtNs: Schema.String,
  /** When connections began to wait. */
  heldAtNs: Schema.String,
  /** The connection of the command that has asked for the upgrade. */
  requester: Schema.optional(Schema.NonNegativeInt),
  descriptors: Schema.Array(Descriptor),
  /** The lengths of the sections. */
  sections: Schema.Array(Schema.NonNegativeInt),
  ended: Schema.optionalWith(Schema.Array(Wire.Ended), { default: () => [] }),
  parts: Schema.Record({ key: Schema.String, value: Schema.Unknown })
})

/** What all versions read. */
export type State = typeof State.Type

/** Identifies an open descriptor. Throws like node:fs. */
export const identify = (fd: number): typeof Descriptor.Type => {
  const { dev, ino } = fstatSync(fd, { bigint: true })
  return { fd, dev: String(dev), ino: String(ino) }
}

/** What no other process of this user may see: variables of the environment, and states of parts. */
const Secrets = Schema.Struct({
  variables: Schema.Record({ key: Schema.String, value: Schema.String }),
  parts: Schema.Record({ key: Schema.String, value: Schema.Unknown })
})

/** What no other process of this user may see. */
export type Secrets = typeof Secrets.Type

/** Secrets as bytes. */
export const formatSecrets = (secrets: Secrets): Buffer => Buffer.from(JSON.stringify(secrets))

/** Reads secrets. Throws if they are none. */
export const parseSecrets = (bytes: Buffer): Secrets => Schema.decodeUnknownSync(Secrets)(JSON.parse(bytes.toString()))

const decode = Schema.decodeUnknownEither(State)

/** Decodes a state. The error is a sentence. */
export const parse = (json: unknown): Either.Either<State, string> =>
  Either.flatMap(
    Either.mapLeft(decode(json), ({ message }) => `the state cannot be read: ${message}`),
    (state) =>
      state.readableFrom > format
        ? Either.left(
            `the state of version ${state.version} has format ${state.format}, which needs a reader of format ` +
              `${state.readableFrom}; this version reads ${format}: go there in smaller steps`
          )
        : Either.right(state)
  )

/** Writes a state, with the bytes and descriptors that its parts have given to `writer`. Throws like node:fs. */
export const write = (
  fd: number,
  boot: Container.Boot,
  state: Omit<State, "format" | "readableFrom" | "sections">,
  writer: Pick<ImageWriter, "sections">
): void => {
  const sections = writer.sections.map(({ length }) => length)
  Container.write(fd, boot, { format, readableFrom: format, ...state, sections }, writer.sections)
}

/** Reads a state. Throws a `NotAnImage`, with a sentence. */
export const read = (fd: number): { readonly state: State; readonly reader: ImageReader } => {
  const { state: json, sectionsAt } = Container.readState(fd)
  const state = Either.getOrElse(parse(json), (message) => {
    throw new Container.NotAnImage(message)
  })
  const starts: Array<number> = []
  let next = sectionsAt
  for (const length of state.sections) {
    starts.push(next)
    next += length
  }
  return {
    state,
    reader: {
      bytes: (index) => {
        const [start, length] = [starts[index], state.sections[index]]
        if (start === undefined || length === undefined) throw new RangeError(`the state has no section ${index}`)
        return Container.readBytes(fd, start, length)
      }
    }
  }
}
