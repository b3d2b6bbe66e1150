/**
 * Control sequences that do something so many times, each time with work of its own: a number in them costs nothing to
 * print, so each is bounded by what can be seen.
 *
 * @since 0.1.0
 */
import type Headless from "@xterm/headless"

type Terminal = InstanceType<typeof Headless.Terminal>

/** The parameters of a sequence. */
interface Parameters {
  readonly params: ReadonlyArray<number>
  readonly length: number
}

type Sequence =
  | "insertLines"
  | "deleteLines"
  | "scrollUp"
  | "scrollDown"
  | "cursorForwardTab"
  | "cursorBackwardTab"
  | "repeatPrecedingCharacter"

/** The internals that carry a sequence out. */
export type InputHandler = Readonly<Record<Sequence, (parameters: Parameters) => boolean>>

/** More of them change nothing. */
const rows = (terminal: Terminal): number => terminal.rows
const cols = (terminal: Terminal): number => terminal.cols

/** A screen full of it. The character may be one with many that combine with it. */
const repetitions = ({ rows, cols, buffer: { active } }: Terminal): number => {
  const line = active.getLine(active.baseY + active.cursorY)
  const length = (width: number) => line?.getCell(active.cursorX - width)?.getChars().length ?? 1
  return Math.max(1, Math.floor((rows * cols) / Math.max(1, length(1), length(2))))
}

/** The final byte of each sequence, and its bound. */
const sequences: ReadonlyArray<readonly [final: string, Sequence, (terminal: Terminal) => number]> = [
  ["L", "insertLines", rows],
  ["M", "deleteLines", rows],
  ["S", "scrollUp", rows],
  ["T", "scrollDown", rows],
  ["I", "cursorForwardTab", cols],
  ["Z", "cursorBackwardTab", cols],
  ["b", "repeatPrecedingCharacter", repetitions]
]

/** Bounds the sequences of a terminal, and does without its links: it would keep each of them. */
export const bound = (terminal: Terminal, handler: InputHandler): void => {
  for (const [final, sequence, most] of sequences) {
    terminal.parser.registerCsiHandler({ final }, ([count]) => {
      if (typeof count !== "number" || count <= 1) return false
      const bound = most(terminal)
      return count > bound && handler[sequence]({ params: [bound], length: 1 })
    })
  }
  terminal.parser.registerOscHandler(8, () => true)
}
