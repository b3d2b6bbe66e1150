/**
 * What programs ask of their terminal. One terminal of a process answers, and only what is asked now: every other answer
 * would be typed into whatever reads next.
 *
 * @since 0.1.0
 */
import type { IParser } from "@xterm/xterm"

/** Control sequences that a terminal answers: attributes, status, modes, version. */
const control = [
  { final: "c" },
  { prefix: ">", final: "c" },
  { prefix: "=", final: "c" },
  { final: "n" },
  { prefix: "?", final: "n" },
  { intermediates: "$", final: "p" },
  { prefix: "?", intermediates: "$", final: "p" },
  { prefix: ">", final: "q" },
  { final: "t" }
]

/** Colours: of the palette, of text, of the background, of the cursor. */
const colours = [4, 10, 11, 12]

/** Swallows queries while `answers` says no. */
export const swallow = (parser: IParser, answers: () => boolean): void => {
  for (const sequence of control) parser.registerCsiHandler(sequence, () => !answers())
  parser.registerDcsHandler({ intermediates: "$", final: "q" }, () => !answers())
  for (const code of colours) parser.registerOscHandler(code, (data) => data.includes("?") && !answers())
}

/** Calls back with text that a program wants in the clipboard. It is never told what is in there. */
export const onCopy = (parser: IParser, listener: (base64: string) => void): void => {
  parser.registerOscHandler(52, (data) => {
    const content = data.slice(data.indexOf(";") + 1)
    if (content !== "?" && content !== "") listener(content)
    return true
  })
}
