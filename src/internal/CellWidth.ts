/**
 * How many cells of a terminal a character takes, by Unicode 14: as libraries and programs count, not as the emulator does by
 * default, whose tables know no emoji. The terminal of the server and that of the page must agree: one shows what the other
 * has laid out.
 *
 * @since 0.1.0
 */

/** What is given to a terminal as `unicode`. */
interface Provider {
  readonly version: string
  readonly wcwidth: (codepoint: number) => 0 | 1 | 2
  readonly charProperties: (codepoint: number, preceding: number) => number
}

/**
 * The ranges of wide and full-width characters: how many after the last one each begins, and how many more it has, in base 36.
 */
const ranges =
  "3cw 2n 3i3 1 e 1 5b 3 4 0 3 0 ei 1 m 1 1f b 18 0 k 0 e 0 9 1 i 1 6 1 9 0 6 0 m 0 8 1 2 0 5 0 3 0 8 0 " +
  "5 1 t 0 10 0 2 0 5 2 2 0 1q 2 p 0 f 0 nw 1 1g 0 5 0 mj ce 3 ee 9 5f3 1t h52 wq s hw 8mb 6l9 d5 mv 2j " +
  "46 2n 3k 6 m4a d97 c21 0 5n 0 5b 0 3 9 2u 80 d 8 2 1x 2 l d 16 5 4 d g 4 0 4 1y 2 0 2 56 3 1q e 3 2 " +
  "n j 0 r 1 e 0 2f 2c 1d 1x 7 0 4 2 3 a c 1 8 8 6c g 7w 1a 2 9 2 54 35 3q zu 2t4t"

/** The first and the last character of each range, one after the other. */
const bounds = ranges.split(" ").reduce<Array<number>>((all, text) => {
  all.push((all.at(-1) ?? 0) + Number.parseInt(text, 36))
  return all
}, [])

/** Characters that are drawn onto the one before them. */
const mark = /^[\p{Mn}\p{Me}\p{Cf}\u1160-\u11ff]$/u

const isWide = (codepoint: number): boolean => {
  let low = 0
  let high = bounds.length / 2 - 1
  while (low <= high) {
    const middle = (low + high) >> 1
    if (codepoint < (bounds[2 * middle] ?? 0)) high = middle - 1
    else if (codepoint > (bounds[2 * middle + 1] ?? 0)) low = middle + 1
    else return true
  }
  return false
}

const measure = (codepoint: number): 0 | 1 | 2 => {
  if (codepoint < 32 || (codepoint >= 127 && codepoint < 160)) return 0
  if (codepoint < 768) return 1
  if (mark.test(String.fromCodePoint(codepoint))) return 0
  return isWide(codepoint) ? 2 : 1
}

/** One more than the width of each character of the first plane; 0 where it is not known yet. */
const known = new Uint8Array(65_536)

/** The width of a character in cells. */
export const widthOf = (codepoint: number): 0 | 1 | 2 => {
  if (codepoint > 65_535) return measure(codepoint)
  const width = known[codepoint] ?? 0
  if (width > 0) return (width - 1) as 0 | 1 | 2
  const measured = measure(codepoint)
  known[codepoint] = measured + 1
  return measured
}

/** Widths in the way of the emulator: a mark takes the cells of the character that it is drawn onto. */
export const provider: Provider = {
  version: "cells",
  wcwidth: widthOf,
  charProperties: (codepoint, preceding) => {
    const width = widthOf(codepoint)
    const precedingWidth = (preceding >> 1) & 3
    const joins = width === 0 && preceding !== 0 && precedingWidth > 0
    return ((joins ? precedingWidth : width) << 1) | (joins ? 1 : 0)
  }
}
