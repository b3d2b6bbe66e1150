/**
 * Text of others, made safe to show at a terminal: without what a terminal acts on, and without what makes text look
 * different from what it is.
 *
 * @since 0.1.0
 */

/**
 * Control characters (C0, DEL, C1: escape sequences begin with one of them), line separators, marks and overrides of the
 * direction of text, and halves of surrogate pairs, which UTF-8 cannot have.
 */
const unsafe =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\p{Surrogate}/gu

/** The longest line that is shown, in characters. */
const maxLine = 8192

/** Text on one line, with a question mark for each unsafe character; what is longer than 8192 characters is cut. */
export const plain = (text: string): string =>
  (text.length > maxLine ? `${text.slice(0, maxLine)}...` : text).replace(unsafe, "?")

const escapeOf = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`

/** Text with `\uXXXX` for each unsafe character: nothing is lost, and in JSON it means the same. */
export const escaped = (text: string): string => text.replace(unsafe, escapeOf)

/** A value as JSON on one line, safe to show. */
export const json = (value: unknown): string => escaped(JSON.stringify(value))

/** A word as a shell reads it; with unsafe characters as bash, zsh and ksh do. */
export const quote = (word: string): string => {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word
  const doubled = word.replaceAll("\\", "\\\\")
  const safe = escaped(doubled)
  return safe === doubled ? `'${word.replaceAll("'", "'\\''")}'` : `$'${safe.replaceAll("'", "\\'")}'`
}
