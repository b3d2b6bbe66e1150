/** Configuration files: each is read, or refused with a sentence. */
import { rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Either from "effect/Either"
import * as EnvironmentConfig from "../../src/environment/EnvironmentConfig.js"
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

/** Keys of environments.toml, of both of its levels, and what they may hold. */
const environmentKeys = ["id", "url", "program", "args", "env", "cwd", "token_file", "default", "include_local"].concat(
  ["connect_timeout_sec", "initialize_timeout_sec", "environments"]
)

const environmentValues = [
  '"a"',
  '"ws://127.0.0.1:1"',
  '"relay://host"',
  '"local"',
  '"none"',
  '["-c", "x"]',
  '{ A = "b" }',
  "5",
  "true",
  "false"
]

/** What a file is read by, and what its lines are made of. */
interface Kind {
  readonly keys: ReadonlyArray<string>
  readonly values: ReadonlyArray<string>
  /** Lines that stand before many another. */
  readonly heads: ReadonlyArray<string>
  readonly read: (file: string) => Either.Either<unknown, { readonly message: string }>
  /** Whether every refusal names the file: those of an environment name the environment. */
  readonly namesFile: boolean
}

const kinds: ReadonlyArray<Kind> = [
  {
    keys: Object.keys(ServerConfig.settings),
    values,
    heads: [],
    read: (file) => ServerConfig.load({}, {}, file),
    namesFile: true
  },
  {
    keys: environmentKeys,
    values: [...values, ...environmentValues, ...environmentValues],
    heads: ["[[environments]]", '[[environments]]\nid = "a"', '[[environments]]\nid = "a"\nurl = "ws://127.0.0.1:1"'],
    read: EnvironmentConfig.load,
    namesFile: false
  }
]

const line = (random: Random, { keys, values, heads }: Kind): string => {
  if (heads.length > 0 && random.percent(30)) return random.pick(heads)
  const key = random.percent(80) ? random.pick(keys) : JSON.stringify(text(random))
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
    const kind = random.pick(kinds)
    const lines = random.list(6, () => line(random, kind)).join(random.pick(["\n", "\r\n"]))
    const content = random.percent(50) ? Buffer.from(lines) : Buffer.from(Mutate.characters(random, lines))
    writeFileSync(file, random.percent(10) ? Mutate.bytes(random, content) : content)
    const startedAt = performance.now()
    let read: ReturnType<Kind["read"]>
    try {
      read = kind.read(file)
    } catch (error) {
      throw new Fault(at, `${error} on ${content.toString().slice(0, 500)}`)
    }
    if (Either.isLeft(read) && (read.left.message === "" || (kind.namesFile && !read.left.message.includes(file)))) {
      throw new Fault(at, `the refusal does not say what is wrong: ${read.left.message}`)
    }
    if (performance.now() - startedAt > 2000) throw new Fault(at, `it took long: ${content.toString().slice(0, 500)}`)
  }
  rmSync(file)
}
