/**
 * The messages between the server and the thread of the screens. Each is handled before the next one.
 *
 * @since 0.1.0
 */
import type { Size } from "../process/ResizeMarks.js"

/** Output, or a change of the size between two outputs. */
export type Item = Uint8Array | Size

/** A message to the thread. */
export type Request =
  | { readonly type: "open"; readonly screen: number; readonly size: Size; readonly scrollback: number }
  | { readonly type: "feed"; readonly screen: number; readonly items: ReadonlyArray<Item> }
  | { readonly type: "show"; readonly screen: number; readonly ask: number; readonly scrollback: number }
  | { readonly type: "close"; readonly screen: number }

/** A message from the thread. */
export type Reply =
  /** A `feed` was taken. */
  | { readonly type: "fed"; readonly screen: number; readonly title: string | null }
  | {
      readonly type: "shown"
      readonly screen: number
      readonly ask: number
      readonly bytes: Uint8Array
      readonly title: string | null
    }
  | { readonly type: "failed"; readonly screen: number; readonly reason: string }
