/**
 * Output as plain text: without control sequences, and each line as it stands in the end. A progress bar that draws
 * itself again and again over the same line is its last state.
 *
 * @since 0.1.0
 */
import { stripVTControlCharacters } from "node:util"

/** Control characters besides tab and newline. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is removed
const otherControls = /[\u0000-\u0007\u000b\u000c\u000e-\u001f\u007f-\u009f]/g

/** Erases the rest of the line, or all of it. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence
const erases = /\u001b\[[02]?K/

/** Removes each backspace with the character before it. */
const withoutBackspaces = (text: string): string => {
  if (!text.includes("\b")) return text
  const kept: Array<string> = []
  for (const character of text) {
    if (character === "\b") kept.pop()
    else kept.push(character)
  }
  return kept.join("")
}

const withoutControls = (text: string): string =>
  withoutBackspaces(stripVTControlCharacters(text).replace(otherControls, ""))

/** What is left of a text after its first characters are overwritten: no half of one that takes two places. */
const after = (text: string, length: number): string => {
  const code = text.charCodeAt(length)
  return text.slice(length > 0 && code >= 0xdc00 && code <= 0xdfff ? length + 1 : length)
}

/** One line, without its newline. What follows a carriage return overwrites what was there. */
const cleanLine = (line: string): string => {
  if (!line.includes("\r")) return withoutControls(line)
  let shown = ""
  for (const part of line.split("\r")) {
    const text = withoutControls(part)
    shown = erases.test(part) ? text : `${text}${after(shown, text.length)}`
  }
  return shown
}

/** Output as plain text; a line that is drawn again is its last state. */
export const clean = (text: string): string => (controls.test(text) ? text.split("\n").map(cleanLine).join("\n") : text)
