/**
 * A version that goes on where another one has stopped: it reads the state, takes over, and tells whoever has asked for
 * the upgrade.
 *
 * @since 0.1.0
 */
import { closeSync } from "node:fs"
import { Socket } from "node:net"
import * as Effect from "effect/Effect"
import type { Adopted, Part } from "../internal/Handover.js"
import { ImageWriter } from "../internal/Image.js"
import { version } from "../internal/Package.js"
import * as Listener from "../transport/Listener.js"
import * as Native from "./Native.js"
import * as State from "./State.js"
import type { Token } from "./Token.js"
import * as Wire from "./Wire.js"

/** What the version before has left. */
export interface Before {
  readonly token: Token
  readonly state: State.State
  readonly adopted: (name: string) => Adopted | undefined
}

/** Reads what was left. Throws if that is not possible. */
export const read = (token: Token): Before => {
  const { state, reader } = State.read(token.image)
  const { parts: secretParts } = State.parseSecrets(Native.peek(token.secret))
  const parts = { ...state.parts, ...secretParts }
  return {
    token,
    state,
    adopted: (name) => (Object.hasOwn(parts, name) ? { state: parts[name], reader } : undefined)
  }
}

const millisecondsSince = (ns: string): number => Number(process.hrtime.bigint() - BigInt(ns)) / 1e6

const rounded = (ms: number): number => Math.round(ms * 10) / 10

/** The descriptors that the version before has kept open, and that no part of this one knows. */
const unknownOf = ({ state }: Before, parts: ReadonlyArray<Part>): ReadonlyArray<number> => {
  const known = new ImageWriter()
  for (const part of parts) part.freeze(known)
  return state.descriptors.flatMap(({ fd, dev, ino }) => {
    if (known.descriptors.has(fd)) return []
    try {
      const found = State.identify(fd)
      // Otherwise it was closed meanwhile, and something else has its number.
      return found.dev === dev && found.ino === ino ? [fd] : []
    } catch {
      return []
    }
  })
}

/** Answers whoever has asked, if they are still there. */
const answer = (fd: number | undefined, text: string): void => {
  if (fd === undefined) return
  try {
    const socket = new Socket({ fd })
    socket.on("error", () => {})
    socket.end(text)
    socket.resume()
  } catch {
    // They are gone.
  }
}

/** What goes on. */
export interface Carried {
  readonly sessions: number
  readonly processes: number
}

/**
 * Takes over: from now on the version before does not come back. Then lets processes be read (`begin`), and tells whoever
 * has asked. `count` counts what goes on.
 */
export const complete = (
  before: Before,
  parts: ReadonlyArray<Part>,
  begin: Effect.Effect<void>,
  count: () => Carried
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { token, state } = before
    yield* Effect.forEach(parts, ({ load = Effect.void }) => load, { discard: true })
    // What could fail comes before.
    const unknown = unknownOf(before, parts)
    const carried = { ...count(), listeners: before.adopted(Listener.part) === undefined ? 0 : 1 }
    token.disarm()
    for (const fd of [...unknown, token.image, token.secret]) closeSync(fd)
    yield* begin
    const gapMs = rounded(millisecondsSince(state.frozenAtNs))
    const awayMs = rounded(millisecondsSince(state.heldAtNs))
    const { pid } = process
    if (token.failure === undefined) {
      const upgraded = { pid, from: state.version, to: version, dryRun: false, gapMs, awayMs, carried }
      answer(state.requester, Wire.line({ upgraded: { ...upgraded, ended: state.ended } }))
      process.stderr.write(`exec-server ${version} has replaced ${state.version}: nothing was read for ${gapMs} ms\n`)
    } else {
      const message = `version ${state.successor} has failed (${token.failure}), and version ${version} serves again, after ${gapMs} ms`
      answer(state.requester, Wire.line({ refused: { message, serves: version } }))
      yield* Effect.logError(`the upgrade has failed: ${message}`)
    }
  })
