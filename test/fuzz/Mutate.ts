/** Damage: to values, to envelopes, to texts and to bytes. */
import { json, text } from "./Grammar.js"
import type { Random } from "./Random.js"

type Container = Array<unknown> | Record<string, unknown>

const containersOf = (value: unknown): ReadonlyArray<Container> =>
  typeof value === "object" && value !== null ? [value as Container, ...Object.values(value).flatMap(containersOf)] : []

/** Changes, removes or adds one member somewhere inside a value. */
export const value = (random: Random, original: unknown): unknown => {
  const containers = containersOf(original)
  if (containers.length === 0 || random.percent(5)) return json(random)
  const container = random.pick(containers)
  const keys = Object.keys(container)
  const key = keys.length === 0 ? "0" : random.pick(keys)
  const members = container as Record<string, unknown>
  const change = random.weighted([
    [5, "replace"],
    [2, "remove"],
    [1, "add"],
    [2, "null"]
  ] as const)
  if (change === "remove") delete members[key]
  else if (change === "null") members[key] = null
  else members[change === "add" ? text(random).slice(0, 40) : key] = json(random)
  return original
}

const idOf = (random: Random, id: string): string =>
  random.pick([
    id,
    `"${id}"`,
    `-${id}`,
    `${id}.0`,
    `${id}.5`,
    `${id}e1`,
    "null",
    "true",
    "{}",
    '""',
    '"\\ud800"',
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-0",
    "1e400",
    "123456789012345678901234567890"
  ])

const traces = ["null", "{}", '{"traceparent":"00-1-2-3"}', '{"traceparent":5}', "5", "[]", '""']

/** The text of an envelope whose members are right, wrong, missing, twice or in another order. */
export const envelope = (random: Random, id: string, method: string, params: string): string => {
  const members = [
    `"id":${random.percent(50) ? id : idOf(random, id)}`,
    `"method":${random.percent(85) ? JSON.stringify(method) : random.pick(["5", "null", "{}", '""', '"no/such"'])}`,
    `"params":${random.percent(85) ? params : random.pick(["null", "[]", "5", '""', "[[]]"])}`,
    ...(random.percent(15) ? [`"trace":${random.pick(traces)}`] : []),
    ...(random.percent(15) ? ['"jsonrpc":"2.0"'] : []),
    ...(random.percent(5) ? [`"result":${random.pick(["null", "{}"])}`] : []),
    ...(random.percent(5) ? ['"error":{"code":-1,"message":"x"}'] : [])
  ]
  if (random.percent(15)) members.splice(random.below(members.length), 1)
  if (random.percent(10)) members.push(random.pick(members))
  if (random.percent(50)) members.reverse()
  const space = random.pick(["", "", " ", "\t", "\r", "\u00a0"])
  return `{${space}${members.join(`,${space}`)}${space}}`
}

const shards = [
  "{",
  "}",
  "[",
  "]",
  '"',
  "\\",
  ",",
  ":",
  "\0",
  "\ufeff",
  "\\u",
  "\\ud800",
  "1e999",
  "-",
  "NaN",
  "//",
  "🙂"
]

/** A text with a few characters lost, doubled, exchanged or put in. */
export const characters = (random: Random, original: string): string => {
  let damaged = original
  for (let i = random.below(3); i >= 0; i--) {
    const at = random.below(damaged.length + 1)
    const rest = damaged.slice(at)
    damaged = random.weighted<() => string>([
      [3, () => damaged.slice(0, at) + random.pick(shards) + rest],
      [3, () => damaged.slice(0, at) + rest.slice(1 + random.below(4))],
      [1, () => damaged.slice(0, at)],
      [1, () => damaged + rest],
      [2, () => damaged.slice(0, at) + String.fromCharCode(random.below(128)) + rest.slice(1)]
    ])()
  }
  return damaged
}

/** Texts that are no message, or a strange one. */
export const oddity = (random: Random): string =>
  random.weighted<() => string>([
    [4, () => JSON.stringify(json(random)) ?? ""],
    [1, () => random.pick(["", " ", "\n", "[]", "{}", "null", "[{}]", '{"id":1}', '{"id":1,"method":5}', "\ufeff{}"])],
    [1, () => "[".repeat(random.pick([63, 64, 65, 1000, 100_000]))],
    [1, () => '{"a":'.repeat(random.pick([64, 65, 20_000]))],
    [1, () => `{"id":1,"method":"${"x".repeat(random.pick([100, 200_000]))}"}`],
    [1, () => `"${"\\".repeat(random.pick([100_000, 100_001]))}"`],
    [1, () => `{"id":${"9".repeat(random.pick([19, 20, 10_000]))},"method":"x"}`],
    [1, () => `{${'"id":1,'.repeat(random.pick([10, 20_000]))}"method":"x"}`],
    [1, () => `{"method":"x","id"${" ".repeat(random.pick([1, 17, 100_000]))}:1}`]
  ])()

/** Bytes with a few lost, exchanged, put in or cut off. */
export const bytes = (random: Random, original: Buffer): Buffer => {
  let damaged = original
  for (let i = random.below(4); i >= 0; i--) {
    const at = random.below(damaged.length + 1)
    const [before, rest] = [damaged.subarray(0, at), damaged.subarray(at)]
    const junk = random.bytes(1 + random.below(4))
    damaged = Buffer.concat(
      random.weighted<() => ReadonlyArray<Buffer>>([
        [4, () => [before, junk, rest.subarray(junk.length)]],
        [2, () => [before, junk, rest]],
        [2, () => [before, rest.subarray(junk.length)]],
        [1, () => [before]]
      ])()
    )
  }
  return damaged
}
