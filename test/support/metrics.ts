/** Parses pages of metrics. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { answer } from "./raw.js"

/** Samples by name and labels, as written. */
export type Samples = ReadonlyMap<string, number>

const line = /^([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*\})?) (\S+)$/

/** Parses a page. Fails on invalid lines and on duplicate samples. */
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

/** The server's response to `/metrics`. */
export const scrape = (url: string) =>
  Effect.map(answer(`${url}/metrics`), ({ status, body }) => {
    assert.strictEqual(status, 200)
    return read(body)
  })

/** Polls until the page is as expected. */
export const scrapeUntil = (url: string, holds: (samples: Samples) => boolean) =>
  Effect.repeat(scrape(url), { until: holds }).pipe(Effect.timeout("20 seconds"), Effect.orDie)
