/**
 * How the parts of a server get over an upgrade: each contributes its state before the server is replaced, and finds it
 * again when it is made in the new version. `src/upgrade` carries the states over.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { ImageReader, ImageWriter } from "./Image.js"

/** A part of a running server. */
export interface Part {
  /** Identifies it in the state; the same in all versions. */
  readonly name: string
  /** Whether no other process of this user may see its state, which then is at most 64 KiB long. */
  readonly isSecret?: boolean
  /** Loads what `freeze` needs, and an ordinary start does not. Run before it. */
  readonly load?: Effect.Effect<void>
  /**
   * Its state, as JSON. Synchronous, and without effect on the part: an upgrade may still be refused. Throws a
   * `CannotFreeze` if it cannot be carried over at the moment.
   */
  readonly freeze: (writer: ImageWriter) => unknown
  /** Stops accepting; what comes now waits in the kernel. `duplicate` duplicates a descriptor. */
  readonly hold?: (duplicate: (fd: number) => number) => void
  /** Accepts again: the upgrade was refused. */
  readonly release?: () => void
  /** How many clients are still arriving, that are worth a short wait. */
  readonly arriving?: () => number
}

/** The state of a part from the version before. */
export interface Adopted {
  readonly state: unknown
  readonly reader: ImageReader
}

/** The parts of a server. */
export interface Shape {
  /** What the version before has handed over to a part; undefined at an ordinary start. */
  readonly adopted: (name: string) => Adopted | undefined
  /** Adds a part, for as long as the server runs. */
  readonly contribute: (part: Part) => void
  /** The transport accepts clients from now on. */
  readonly serving: () => void
}

/** The parts of the server. By default nothing is carried over. */
export class Handover extends Context.Reference<Handover>()("exec-server/Handover", {
  defaultValue: (): Shape => ({ adopted: () => undefined, contribute: () => {}, serving: () => {} })
}) {}
