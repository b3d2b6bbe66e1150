/**
 * The messages between the server and the thread of the screens. Each is handled before the next one.
 *
 * @since 0.1.0
 */
import type { TerminalSize } from "../protocol/ProcessSchemas.js"

/** Output, or a change of the size between two outputs. */
export type Item = Uint8Array | TerminalSize

/** What a terminal shows, as text: lines without colours and without trailing spaces. */
export interface ScreenText {
  /** The rows of the screen. */
  readonly screen: ReadonlyArray<string>
  /** Where the cursor stands, from 0. */
  readonly cursor: { readonly row: number; readonly col: number }
  readonly size: TerminalSize
  /** Whether a program draws the whole screen: it has changed to the alternate one. */
  readonly isFullScreen: boolean
  /**
   * The lines from where the cursor stood when it was last marked, as they are now, and wrapped ones in one piece;
   * undefined if they are no longer all there.
   */
  readonly since: ReadonlyArray<string> | undefined
}

/** A message to the thread. */
export type Request =
  | { readonly type: "open"; readonly screen: number; readonly size: TerminalSize; readonly scrollback: number }
  | { readonly type: "feed"; readonly screen: number; readonly items: ReadonlyArray<Item> }
  | { readonly type: "show"; readonly screen: number; readonly ask: number; readonly scrollback: number }
  /** Asks for the text; with `mark`, the next one's `since` begins where the cursor stands now. */
  | { readonly type: "read"; readonly screen: number; readonly ask: number; readonly mark: boolean }
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
  | { readonly type: "text"; readonly screen: number; readonly ask: number; readonly text: ScreenText }
  | { readonly type: "failed"; readonly screen: number; readonly reason: string }
