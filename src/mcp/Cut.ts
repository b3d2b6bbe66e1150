/**
 * Cuts output to a budget: what is left of it is its beginning and its end, whole lines where possible.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"

const newline = 0x0a

/**
 * What was left out of the middle.
 *
 * @category models
 */
export interface Omitted {
  readonly lines: number
  readonly bytes: number
  /** Where it begins, for `readAt`. */
  readonly offset: number
}

/** Whether a byte is one of a character, but not its first. */
const isContinuation = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80

/** No character has more bytes after its first one: more of them are no text, and are cut anywhere. */
const maxContinuation = 3

/**
 * How much of the beginning fits: up to the end of a line, if it is not longer than the budget.
 *
 * @category utilities
 */
export const headLength = (bytes: Buffer, budget: number): number => {
  if (bytes.length <= budget) return bytes.length
  // The newline itself need not fit.
  const end = bytes.lastIndexOf(newline, budget) + 1
  if (end > 0) return end
  for (let cut = budget; cut > 0 && cut >= budget - maxContinuation; cut--) {
    if (!isContinuation(bytes[cut])) return cut
  }
  return budget
}

/**
 * Where the end that fits begins: at the start of a line, if it is not longer than the budget.
 *
 * @category utilities
 */
export const tailStart = (bytes: Buffer, budget: number): number => {
  if (bytes.length <= budget) return 0
  const first = bytes.length - budget
  const start = bytes.indexOf(newline, first - 1) + 1
  if (start > 0 && start < bytes.length) return start
  for (let cut = first; cut <= first + maxContinuation; cut++) {
    if (!isContinuation(bytes[cut])) return cut
  }
  return first
}
