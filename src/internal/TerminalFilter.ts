/**
 * Output for terminals without what is dangerous to pass on: whatever a terminal answers, as the answer would be typed
 * into the next program, and whatever acts outside of the screen, such as on the clipboard.
 *
 * @since 0.1.0
 */

/** The longest sequence that is recognized, in characters; longer ones are left out. */
const maxLength = 4096

const esc = "\u001b"

/** The second character of sequences that contain text, up to a terminator. */
const strings = new Set(["]", "P", "X", "^", "_"])

/** Their C1 forms, and that of `ESC [`. */
const c1 = new Map([
  ["\u009b", "["],
  ["\u009d", "]"],
  ["\u0090", "P"],
  ["\u0098", "X"],
  ["\u009e", "^"],
  ["\u009f", "_"]
])

/** A control sequence that a terminal answers: device attributes, status, modes, window reports, versions. */
const isQuery = (parameters: string, final: string): boolean => {
  switch (final) {
    case "c":
    case "n":
    case "x":
      return true
    case "t":
      return !/^(22|23)(;|$)/.test(parameters)
    case "p":
    case "w":
      return parameters.includes("$")
    case "q":
      return parameters.startsWith(">")
    case "u":
      return parameters.startsWith("?") || parameters.includes("$")
    default:
      return false
  }
}

/** What of the output is passed on. */
export type Kept = "screen" | "text"

/** A filter of one stream of output. A sequence may be split between two pieces. */
export class TerminalFilter {
  private state: "ground" | "escape" | "control" | "string" = "ground"
  private sequence = ""

  /** `screen`: what draws on the screen. `text`: only text, line feeds and tabs. */
  constructor(private readonly kept: Kept) {}

  /** The next piece of output, filtered. */
  write(text: string): string {
    let out = ""
    for (const character of text) out += this.take(character)
    return out
  }

  private take(character: string): string {
    switch (this.state) {
      case "ground":
        return this.ground(character)
      case "escape":
        return this.afterEscape(character)
      case "control":
        return this.control(character)
      case "string":
        return this.string(character)
    }
  }

  private ground(character: string): string {
    if (character === esc) {
      this.state = "escape"
      this.sequence = esc
      return ""
    }
    const second = c1.get(character)
    if (second !== undefined) {
      this.sequence = esc
      return this.afterEscape(second)
    }
    const isControl = character < " " || (character >= "\u007f" && character <= "\u009f")
    if (!isControl || character === "\n" || character === "\t") return character
    // ENQ asks for an answer.
    return this.kept === "screen" && character < " " && character !== "\u0005" ? character : ""
  }

  private afterEscape(character: string): string {
    if (character === esc) return ""
    this.sequence += character
    if (character === "[") this.state = "control"
    else if (strings.has(character)) this.state = "string"
    // Intermediate characters, as those that select a character set.
    else if (character >= " " && character <= "/" && this.sequence.length < maxLength) return ""
    // ESC Z asks what terminal it is.
    else return this.end(character !== "Z")
    return ""
  }

  private control(character: string): string {
    // A new sequence aborts the current one; CAN and SUB do as well.
    if (character === esc || character < " ") {
      this.state = "ground"
      return this.ground(character)
    }
    this.sequence += character
    if (character < "@" && this.sequence.length < maxLength) return ""
    return this.end(this.sequence.length < maxLength && !isQuery(this.sequence.slice(2, -1), character))
  }

  private string(character: string): string {
    const isOver = character === "\u0007" || character === "\u009c" || character === "\u0018" || character === "\u001a"
    if (isOver || (character === "\\" && this.sequence.endsWith(esc))) {
      this.sequence += character
      // Of these only links draw on the screen.
      return this.end(this.sequence.startsWith(`${esc}]8;`) && this.sequence.length < maxLength)
    }
    if (this.sequence.length < maxLength || character === esc) this.sequence += character
    // What is too long is left out; only its end is looked for.
    else this.sequence = this.sequence.slice(0, maxLength)
    return ""
  }

  private end(isSafe: boolean): string {
    const { sequence } = this
    this.state = "ground"
    this.sequence = ""
    return isSafe && this.kept === "screen" ? sequence : ""
  }
}
