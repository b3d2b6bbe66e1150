/**
 * The names of keys, and what a terminal sends for each.
 *
 * @since 0.1.0
 */

const named = new Map(
  Object.entries({
    enter: "\r",
    return: "\r",
    tab: "\t",
    esc: "\u001b",
    escape: "\u001b",
    space: " ",
    backspace: "\u007f",
    delete: "\u001b[3~",
    insert: "\u001b[2~",
    up: "\u001b[A",
    down: "\u001b[B",
    right: "\u001b[C",
    left: "\u001b[D",
    home: "\u001b[H",
    end: "\u001b[F",
    "page-up": "\u001b[5~",
    pageup: "\u001b[5~",
    "page-down": "\u001b[6~",
    pagedown: "\u001b[6~",
    "shift-tab": "\u001b[Z",
    f1: "\u001bOP",
    f2: "\u001bOQ",
    f3: "\u001bOR",
    f4: "\u001bOS",
    f5: "\u001b[15~",
    f6: "\u001b[17~",
    f7: "\u001b[18~",
    f8: "\u001b[19~",
    f9: "\u001b[20~",
    f10: "\u001b[21~",
    f11: "\u001b[23~",
    f12: "\u001b[24~"
  })
)

/** The control character of `ctrl-x`: of the letters, and of the characters beside them in ASCII. */
const controlOf = (character: string): string | undefined => {
  if (character === "space") return "\u0000"
  return /^[@-_a-z]$/.test(character) ? String.fromCharCode(character.charCodeAt(0) & 0x1f) : undefined
}

/** What a terminal sends for a key without alt. */
const withoutAlt = (key: string): string | undefined => {
  const [, control] = /^(?:ctrl[-+]|c-|\^)(.+)$/is.exec(key) ?? []
  if (control !== undefined) return controlOf(control.toLowerCase() === "space" ? "space" : control)
  return named.get(key.toLowerCase()) ?? (Array.from(key).length === 1 ? key : undefined)
}

/** What a terminal sends for a key, such as `enter`, `ctrl-c`, `C-c`, `^C`, `alt-x` or `a`; undefined for no key. */
export const bytesOf = (key: string): string | undefined => {
  const [, alt] = /^(?:alt[-+]|m-)(.+)$/is.exec(key) ?? []
  if (alt === undefined) return withoutAlt(key)
  const rest = withoutAlt(alt)
  return rest === undefined ? undefined : `\u001b${rest}`
}

/** What keys are called, for messages. */
export const names =
  "enter, tab, shift-tab, esc, space, backspace, delete, insert, up, down, left, right, home, end, page-up, page-down, f1 to f12, " +
  "ctrl-a to ctrl-z, alt-x, or one character"
