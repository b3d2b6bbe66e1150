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
import { AuditLog } from "../session/AuditLog.js"
import * as SocketOwner from "../spawn/SocketOwner.js"
import * as CarriedListener from "../transport/CarriedListener.js"
import * as Native from "./Native.js"
import { whoIs } from "./Requester.js"
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

/** Closes descriptors that the version before has kept open, and that no part of this one knows. */
const closeUnknown = ({ state }: Before, parts: ReadonlyArray<Part>): void => {
  const known = new ImageWriter()
  try {
    for (const part of parts) part.freeze(known)
  } catch {
    // A process is being started: what is not known now may be known then. They stay open.
    return
  }
  for (const { fd, dev, ino } of state.descriptors) {
    if (known.descriptors.has(fd)) continue
    try {
      const found = State.identify(fd)
      // Otherwise it was closed meanwhile, and something else has its number.
      if (found.dev === dev && found.ino === ino) closeSync(fd)
    } catch {
      // It is closed.
    }
  }
}

/** The connection of whoever has asked, if they are still there. */
const connectionOf = (fd: number | undefined): Socket | undefined => {
  if (fd === undefined) return undefined
  try {
    const socket = new Socket({ fd })
    socket.on("error", () => {})
    socket.resume()
    return socket
  } catch {
    return undefined
  }
}

/** What goes on. */
export interface Carried {
  readonly sessions: number
  readonly processes: number
}

/** How long it took. */
export interface Times {
  readonly gapMs: number
  readonly awayMs: number
}

/** Takes over: from now on the version before does not come back. Then lets processes be read (`begin`). */
export const takeOver = ({ token, state }: Before, begin: Effect.Effect<void>): Effect.Effect<Times> =>
  Effect.gen(function* () {
    token.disarm()
    yield* begin
    return {
      gapMs: rounded(millisecondsSince(state.frozenAtNs)),
      awayMs: rounded(millisecondsSince(state.heldAtNs))
    }
  })

/** Closes what is not needed any more, and tells whoever has asked for the upgrade. */
export const finish = (
  before: Before,
  parts: ReadonlyArray<Part>,
  { gapMs, awayMs }: Times,
  counted: Carried
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { token, state } = before
    for (const fd of [token.image, token.secret]) closeSync(fd)
    yield* Effect.forEach(parts, ({ load = Effect.void }) => load, { discard: true })
    yield* Effect.sync(() => closeUnknown(before, parts))
    const audit = yield* AuditLog
    const requester = connectionOf(state.requester)
    const who = whoIs(requester === undefined ? undefined : SocketOwner.of(requester))
    const { pid } = process
    const carried = { ...counted, listeners: before.adopted(CarriedListener.part) === undefined ? 0 : 1 }
    if (token.failure === undefined) {
      const upgraded = { pid, from: state.version, to: version, dryRun: false, gapMs, awayMs, carried }
      audit.write(who, { event: "server.upgraded", from: state.version, to: version })
      requester?.end(Wire.line({ upgraded: { ...upgraded, ended: state.ended } }))
      process.stderr.write(`exec-server ${version} has replaced ${state.version}: nothing was read for ${gapMs} ms\n`)
    } else {
      const message =
        `version ${state.successor} has failed (${token.failure}), and version ${version} serves again, ` +
        `after ${gapMs} ms`
      audit.write(who, { event: "server.upgradeFailed", from: version, to: state.successor })
      requester?.end(Wire.line({ refused: { message, serves: version } }))
      yield* Effect.logError(`the upgrade has failed: ${message}`)
    }
  })
