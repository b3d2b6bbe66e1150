/**
 * Pastes: what reaches the process of the clipboard's text.
 *
 * @since 0.1.0
 */

/** What may not come from a clipboard: everything but tabs and line ends. ESC would end the paste for the program. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is removed
const controls = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g

/** A paste that is safe to send, and what there is to say about it. */
export interface Paste {
  /** With carriage returns at the ends of lines, as keys are sent. */
  readonly text: string
  readonly lines: number
  /** How many control characters were left out. */
  readonly removed: number
}

/** Filters a paste. */
export const filter = (text: string): Paste => {
  const clean = text.replace(controls, "")
  const keys = clean.replace(/\r\n|\n/g, "\r")
  return { text: keys, lines: keys.replace(/\r$/, "").split("\r").length, removed: text.length - clean.length }
}

/** A paste as the program asked for it: in brackets, so that it can tell it from keys. */
export const bracketed = (text: string): string => `\u001b[200~${text}\u001b[201~`
