/**
 * What a process prints, in order and without gaps, for one display: over lost connections, and whoever the process
 * belongs to.
 *
 * @since 0.1.0
 */
import { type Signal, signal } from "@preact/signals"
import type { StreamName } from "./Frames.js"
import type { Exit, Size, Viewer } from "./Wire.js"

/** What shows the output of a process. */
export interface Display {
  /** Forgets everything, takes a size, and shows a screen. */
  readonly reset: (size: Size | null, screen: Uint8Array | null) => void
  /** Shows output; `isLive` if it is printed now. `shown` is called when it is shown. */
  readonly output: (stream: StreamName, bytes: Uint8Array, isLive: boolean, shown: () => void) => void
  /** What follows was printed for this size. */
  readonly resize: (size: Size) => void
  /** So much output is missing here. */
  readonly gap: (bytes: number) => void
}

/** Where a feed stands. */
export type Phase =
  | { readonly _tag: "Loading" }
  | { readonly _tag: "Live" }
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Over"; readonly message: string }

/** What is known of the process besides its output. */
export interface Facts {
  readonly phase: Signal<Phase>
  /** How it has exited; undefined while it has not. */
  readonly exit: Signal<Exit | undefined>
  readonly closed: Signal<boolean>
  readonly viewers: Signal<ReadonlyArray<Viewer>>
  readonly size: Signal<Size | null>
  readonly title: Signal<string | null>
  /** Whether this display sets the size. */
  readonly drives: Signal<boolean>
}

/** Nothing is known yet. */
export const facts = (): Facts => ({
  phase: signal<Phase>({ _tag: "Loading" }),
  exit: signal<Exit | undefined>(undefined),
  closed: signal(false),
  viewers: signal<ReadonlyArray<Viewer>>([]),
  size: signal<Size | null>(null),
  title: signal<string | null>(null),
  drives: signal(false)
})

/** A feed. */
export interface Feed {
  readonly facts: Facts
  /** Whether this display answers what programs ask of their terminal: the one that sets its size does. */
  readonly answers: () => boolean
  /** Sets the size of the terminal, and keeps it; fails with a `CallError`. */
  readonly fit: (size: Size) => Promise<void>
  readonly close: () => void
}

/** How much of the window is acknowledged at a time. */
export const ackFraction = 8

/** How many lines above the screen are asked for. */
export const scrollback = 1000

/** How much is read at a time, in bytes. */
export const readBytes = 262_144
