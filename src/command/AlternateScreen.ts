/**
 * Whether the output so far has left the terminal on its alternate screen, where full-screen programs draw.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"

/** Modes are set with `CSI ? ... h` and reset with `CSI ? ... l`; `ESC c` resets everything. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one
const changes = /\u001b(?:c|\[\?([\d;]*)([hl]))/g

const modes: ReadonlySet<string> = new Set(["47", "1047", "1049"])

/** Longer sequences are not recognised if they are cut. */
const maxSequence = 32

/** Follows the output. */
export class AlternateScreen {
  private rest = ""
  isOn = false

  /** Takes the next output. */
  push(output: string | Uint8Array): void {
    const text = typeof output === "string" ? output : Buffer.from(output).toString("latin1")
    const all = this.rest + text
    for (const [, numbers, final] of all.matchAll(changes)) {
      if (final === undefined) this.isOn = false
      else if (numbers?.split(";").some((number) => modes.has(number))) this.isOn = final === "h"
    }
    const start = all.lastIndexOf("\u001b")
    this.rest = start >= 0 && all.length - start < maxSequence ? all.slice(start) : ""
  }
}
