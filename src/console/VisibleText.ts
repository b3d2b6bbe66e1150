/**
 * Foreign text made safe to look at: characters that do not show, or that make text look different from what it is, are
 * replaced by a visible one.
 *
 * @since 0.1.0
 */

/**
 * Control characters, line separators, marks and overrides of text direction, invisible ones, and lone surrogates; not the
 * selectors of variants, which emoji have.
 */
const hidden =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\u2800\ufeff\ufff9-\ufffb]|(?![\ufe00-\ufe0f])\p{Default_Ignorable_Code_Point}|\p{Surrogate}/gu

/** The pictures of control characters, or the number of any other one. */
const shown = (character: string): string => {
  const code = character.codePointAt(0) ?? 0
  if (code < 0x20) return String.fromCharCode(0x2400 + code)
  if (code === 0x7f) return "\u2421"
  return `\u27e8${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`
}

/** Text on one line. What is over `limit` characters is cut. */
export const visible = (text: string, limit = 1000): string =>
  (text.length > limit ? `${text.slice(0, limit)}\u2026` : text).replace(hidden, shown)

/** A word as a shell would take it, visible. */
const word = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${visible(text).replaceAll("'", "'\\''")}'`

/** A command on one line. */
export const commandOf = (argv: ReadonlyArray<string>): string => {
  const line = argv.slice(0, 100).map(word).join(" ")
  return line.length > 1000 ? `${line.slice(0, 1000)}\u2026` : line
}
