/** Configuration files: each is read, or refused with a sentence. */
import { rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Either from "effect/Either"
import * as ServerConfig from "../../src/server/ServerConfig.js"
import { type Batch, Fault } from "./Batch.js"
import { json, text } from "./Grammar.js"
import * as Mutate from "./Mutate.js"
import { mix, Random } from "./Random.js"
import type { Ground } from "./World.js"

const values = [
  "1",
  "-1",
  "0x10",
  "1e3",
  "1.5",
  "inf",
  "nan",
  "true",
  '"x"',
  "'x'",
  '"""a\nb"""',
  "[]",
  '["a", 1]',
  "{}"
]

const oddities = [
  "1979-05-27T07:32:00Z",
  "{ a.b = 1 }",
  "[[[]]]",
  `${"[".repeat(5000)}`,
  '"\\u{110000}"',
  '"\\ud800"',
  "="
]

const line = (random: Random): string => {
  const key = random.percent(80) ? random.pick(Object.keys(ServerConfig.settings)) : JSON.stringify(text(random))
  const value = random.weighted<() => string>([
    [8, () => random.pick(values)],
    [2, () => random.pick(oddities)],
    [1, () => JSON.stringify(json(random)) ?? ""]
  ])()
  return random.weighted<() => string>([
    [10, () => `${key} = ${value}`],
    [1, () => `[${key}]`],
    [1, () => `${key}.${key} = ${value}`],
    [1, () => `# ${value}`]
  ])()
}

/** Reads a batch of files. */
export const run = async ({ seed, from, to }: Batch, ground: Ground): Promise<void> => {
  const file = join(ground.root, `c${from}.toml`)
  for (let at = from; at < to; at++) {
    const random = new Random(mix(seed, 7, at))
    const lines = random.list(6, () => line(random)).join(random.pick(["\n", "\r\n"]))
    const content = random.percent(50) ? Buffer.from(lines) : Buffer.from(Mutate.characters(random, lines))
    writeFileSync(file, random.percent(10) ? Mutate.bytes(random, content) : content)
    const startedAt = performance.now()
    let read: Either.Either<unknown, ServerConfig.ConfigError>
    try {
      read = ServerConfig.load({}, {}, file)
    } catch (error) {
      throw new Fault(at, `${error} on ${content.toString().slice(0, 500)}`)
    }
    if (Either.isLeft(read) && !read.left.message.includes(file)) {
      throw new Fault(at, `the refusal does not name the file: ${read.left.message}`)
    }
    if (performance.now() - startedAt > 2000) throw new Fault(at, `it took long: ${content.toString().slice(0, 500)}`)
  }
  rmSync(file)
}
