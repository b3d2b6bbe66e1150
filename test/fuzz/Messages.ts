/** The messages of the fuzzer: each a function of the seed and its number alone. */
import * as Grammar from "./Grammar.js"
import * as Mutate from "./Mutate.js"
import type { Random } from "./Random.js"
import { isSafe } from "./Safety.js"

/** The longest message, in characters: below what a server takes, also when every character takes four bytes. */
const maxLength = 200_000

/** A request that does nothing, whatever damage it takes. */
export const harmless = (id: string): string => `{"id":${id},"method":"environment/status"}`

const wellFormed = (text: string): string => Buffer.from(text).toString()

const stringify = (value: unknown): string => JSON.stringify(value) ?? "null"

const make = (random: Random, id: string, world: Grammar.World): string => {
  const { method, params } = Grammar.request(random, world)
  const plain = (params: unknown) => `{"id":${id},"method":${JSON.stringify(method)},"params":${stringify(params)}}`
  return random.weighted<() => string>([
    [55, () => plain(params)],
    [18, () => plain(Mutate.value(random, Mutate.value(random, params)))],
    [12, () => Mutate.envelope(random, id, method, stringify(params))],
    [9, () => Mutate.characters(random, plain(params))],
    [4, () => Mutate.oddity(random)],
    [1, () => stringify(Grammar.notification(random, world))],
    [1, () => stringify({ method: Grammar.text(random), params })]
  ])()
}

/** One message, as the server will read it. */
export const message = (random: Random, id: string, world: Grammar.World): string => {
  const text = wellFormed(make(random, id, world))
  return text.length <= maxLength && isSafe(text, world) ? text : harmless(id)
}
