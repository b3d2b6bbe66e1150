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

/** A link: text without controls, which might end it early, and its terminator. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
const link = /^\u001b\]8;[^\u0000-\u001f\u007f-\u009f]*(\u0007|\u009c|\u001b\\)$/

/** A control sequence that a terminal answers: device attributes, status, modes, window reports, versions. */
const isQuery = (parameters: string, final: string): boolean => {
  switch (final) {
    case "c":
    case "n":
    case "x":
      return true
    case "t":
      return !/^(22|23)(;|$)/.test(parameters)
    case "w":
      return parameters.includes("$")
    case "p":
      return /[$+]/.test(parameters)
    case "q":
      return parameters.startsWith(">")
    case "u":
      return parameters.startsWith("?") || /[$&]/.test(parameters)
    // Checksums, graphics, keyboards, colours, locators.
    case "y":
      return parameters.includes("*")
    case "S":
    case "m":
      return parameters.startsWith("?")
    case "R":
      return parameters.includes("#")
    case "|":
      return /[#']/.test(parameters)
    case "v":
      return parameters.includes('"')
    default:
      return false
  }
}

/** Whether this is part of no sequence: a terminal acts on it at once, in the middle of one too, or ignores it. */
const isForeign = (character: string) => character < " " || character > "~"

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
    if (isForeign(character)) return this.abort(character)
    this.sequence += character
    if (character === "[") this.state = "control"
    else if (strings.has(character)) this.state = "string"
    // Intermediate characters, as those that select a character set.
    else if (character <= "/" && this.sequence.length < maxLength) return ""
    // ESC Z asks what terminal it is; after ESC % the bytes of a character may be controls.
    else return this.end(this.sequence.length < maxLength && character !== "Z" && this.sequence[1] !== "%")
    return ""
  }

  private control(character: string): string {
    if (isForeign(character)) return this.abort(character)
    this.sequence += character
    if (character < "@" && this.sequence.length < maxLength) return ""
    return this.end(this.sequence.length < maxLength && !isQuery(this.sequence.slice(2, -1), character))
  }

  private string(character: string): string {
    const isOver = character === "\u0007" || character === "\u009c" || character === "\u0018" || character === "\u001a"
    const isEscaped = this.sequence.endsWith(esc)
    if (isOver || (character === "\\" && isEscaped)) {
      this.sequence += character
      // Of these only links draw on the screen.
      return this.end(link.test(this.sequence) && this.sequence.length < maxLength)
    }
    if (isEscaped) {
      // Another sequence begins.
      this.state = "escape"
      this.sequence = esc
      return this.afterEscape(character)
    }
    if (this.sequence.length < maxLength || character === esc) this.sequence += character
    // What is too long is left out; only its end is looked for.
    else this.sequence = this.sequence.slice(0, maxLength)
    return ""
  }

  /** What is within a sequence leaves it out, and counts for itself. */
  private abort(character: string): string {
    this.state = "ground"
    this.sequence = ""
    return this.ground(character)
  }

  private end(isSafe: boolean): string {
    const { sequence } = this
    this.state = "ground"
    this.sequence = ""
    return isSafe && this.kept === "screen" ? sequence : ""
  }
}
