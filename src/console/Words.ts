/**
 * The words of a command line, as a shell splits them: quotes and backslashes, nothing else.
 *
 * @since 0.1.0
 */

/** The words, or what is wrong with the line. */
export type Words = { readonly _tag: "Words"; readonly words: ReadonlyArray<string> } | { readonly _tag: "OpenQuote" }

const token = /\s+|'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"|\\([\s\S])|([^\s'"\\]+)/y

/** Splits a line. */
export const split = (line: string): Words => {
  const words: Array<string> = []
  let current: string | undefined
  token.lastIndex = 0
  while (token.lastIndex < line.length) {
    const found = token.exec(line)
    if (found === null) return { _tag: "OpenQuote" }
    const [, single, double, escaped, plain] = found
    const piece = single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? escaped ?? plain
    if (piece !== undefined) current = (current ?? "") + piece
    else if (current !== undefined) {
      words.push(current)
      current = undefined
    }
  }
  if (current !== undefined) words.push(current)
  return { _tag: "Words", words }
}

/** Lines of `NAME=value`, or the first one that is none. */
export type Variables =
  | { readonly _tag: "Variables"; readonly variables: Readonly<Record<string, string>> }
  | { readonly _tag: "Wrong"; readonly line: string }

/** Reads environment variables, one in each line; empty lines do not count. */
export const variables = (text: string): Variables => {
  const found: Record<string, string> = {}
  for (const line of text.split("\n").filter((one) => one.trim() !== "")) {
    const at = line.indexOf("=")
    if (at < 1) return { _tag: "Wrong", line }
    found[line.slice(0, at).trim()] = line.slice(at + 1)
  }
  return { _tag: "Variables", variables: found }
}
