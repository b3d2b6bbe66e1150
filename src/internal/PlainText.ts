/**
 * Makes foreign text safe to show at a terminal: removes control sequences, and characters that make text look
 * different from what it is.
 *
 * @since 0.1.0
 */

/**
 * Control characters (C0, DEL, and C1; escape sequences begin with one of them), line separators, marks and overrides
 * of text direction, and lone surrogates, which UTF-8 cannot encode.
 */
const unsafe =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\p{Surrogate}/gu

/** The longest text that is shown, in characters. */
const maxLine = 8192

/** Text on one line, with a question mark for each unsafe character. Text over 8192 characters is cut. */
export const plain = (text: string): string =>
  (text.length > maxLine ? `${text.slice(0, maxLine)}...` : text).replace(unsafe, "?")

const escapeOf = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`

/** Text with `\uXXXX` for each unsafe character: lossless, and equivalent in JSON. */
export const escaped = (text: string): string => text.replace(unsafe, escapeOf)

/** A value as JSON on one line, safe to show. */
export const json = (value: unknown): string => escaped(JSON.stringify(value))

/** A word quoted for a shell. Unsafe characters use the `$'...'` form of bash, zsh and ksh. */
export const quote = (word: string): string => {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word
  const doubled = word.replaceAll("\\", "\\\\")
  const safe = escaped(doubled)
  return safe === doubled ? `'${word.replaceAll("'", "'\\''")}'` : `$'${safe.replaceAll("'", "\\'")}'`
}
