/**
 * The texts of failed system calls, followed by what they are about: `No such file or directory (os error 2): /the/path`.
 *
 * @since 0.1.0
 */
import * as PlainText from "../internal/PlainText.js"

/** A text of `OsError`, and nothing else. Other messages say themselves what they are about. */
const bare = /^[^:]* \(os error \d+\)$/

/** A text with its subject. */
const whole = /^([^:]* \(os error \d+\)): (.*)$/s

/** The longest subject, in characters: a path may have 4096 bytes, and a message is read by people. */
const maxSubject = 1024

/** The text of a system error with its subject, on one line and safe to show. Any other message is left as it is. */
export const about = (message: string, subject: string): string => {
  if (!bare.test(message)) return message
  const shown = subject.length > maxSubject ? `${subject.slice(0, maxSubject)}...` : subject
  return `${message}: ${PlainText.plain(shown)}`
}

/** The text of a system error and its subject, which servers of other versions leave out; undefined for any other. */
export const parse = (message: string): { readonly text: string; readonly subject: string | undefined } | undefined => {
  if (bare.test(message)) return { text: message, subject: undefined }
  const [, text, subject] = whole.exec(message) ?? []
  return text === undefined ? undefined : { text, subject }
}
