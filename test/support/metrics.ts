/** Pages of metrics, read back. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { answer } from "./raw.js"

/** Samples by their name and labels, as they are written. */
export type Samples = ReadonlyMap<string, number>

const line = /^([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*\})?) (\S+)$/

/** Reads a page; a line that is neither a comment nor a sample is a failure, and so is a sample given twice. */
export const read = (text: string): Samples => {
  const samples = new Map<string, number>()
  assert.isTrue(text.endsWith("\n"))
  for (const written of text.slice(0, -1).split("\n")) {
    if (/^# (HELP|TYPE) /.test(written)) continue
    const [, name = "", value = ""] = line.exec(written) ?? assert.fail(`not a sample: ${written}`)
    assert.isFalse(samples.has(name), name)
    samples.set(name, Number(value))
  }
  return samples
}

/** What a server answers to `/metrics`. */
export const scrape = (url: string) =>
  Effect.map(answer(`${url}/metrics`), ({ status, body }) => {
    assert.strictEqual(status, 200)
    return read(body)
  })

/** Asks again and again until the answer is right. */
export const scrapeUntil = (url: string, holds: (samples: Samples) => boolean) =>
  Effect.repeat(scrape(url), { until: holds }).pipe(Effect.timeout("20 seconds"), Effect.orDie)
