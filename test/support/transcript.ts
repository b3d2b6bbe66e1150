/**
 * Plays the exchanges of a page with a real server. A block has one JSON message after the other, each beginning at the
 * left margin: those with a `method` and an `id`, `initialized`, `process/ack`, `attachment/ack`, and arrays are sent; all others have to come.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { directory } from "./files.js"
import { type Block, page } from "./pages.js"
import { textOf } from "./servers.js"
import type { Json, TestClient } from "./TestClient.js"
import { upstream } from "./upstream.js"

/** The variable parts of a page's examples. */
export interface Context {
  /** Texts on the page, and their replacements on this machine. */
  readonly places: ReadonlyArray<readonly [shown: string, actual: string]>
  /** Members whose values vary from run to run: only their types are compared. */
  readonly varying: ReadonlySet<string>
  /** The actual values of varying texts, by those on the page. They replace these in later messages. */
  readonly names: Map<string, string>
}

/** The members that docs/protocol.md says to vary. */
export const varying: ReadonlySet<string> = new Set(
  Array.from(
    (/in each run:([\s\S]*?)\. `/.exec(page("docs/protocol.md").text)?.[1] ?? "").matchAll(/`(\w+)`/g),
    ([, name = ""]) => name
  )
)

/** The folder and the web server that pages speak of. */
export const makeContext: Effect.Effect<Context, never, Scope.Scope> = Effect.gen(function* () {
  const folder = yield* directory
  const web = yield* upstream((response) => {
    response.sendDate = false
    response.writeHead(200, { "content-type": "text/plain", "content-length": "6", connection: "close" })
    response.end("hello\n")
  })
  return {
    places: [
      ["/srv/demo", folder],
      ["http://127.0.0.1:8000", web.url]
    ],
    varying,
    names: new Map()
  }
})

const isObject = (value: Json): boolean => typeof value === "object" && value !== null && !Array.isArray(value)

const kindOf = (value: Json): string => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value)

/** The message with varying members as shown on the page, if they have the same type. */
const masked = (actual: Json, shown: Json, { varying, names }: Context): Json => {
  if (Array.isArray(actual) && Array.isArray(shown)) {
    return actual.map((item, index) => masked(item, shown[index], { varying, names, places: [] }))
  }
  if (typeof actual === "string" && typeof shown === "string") {
    const pattern = shown.split("<port>").map((text) => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&"))
    return new RegExp(`^${pattern.join("\\d+")}$`).test(actual) ? shown : actual
  }
  if (!isObject(actual) || !isObject(shown)) return actual
  return Object.fromEntries(
    Object.entries(actual).map(([name, value]) => {
      const expected = shown[name]
      if (!varying.has(name)) return [name, masked(value, expected, { varying, names, places: [] })]
      if (typeof value === "string" && typeof expected === "string") names.set(expected, value)
      return [name, kindOf(value) === kindOf(expected) ? expected : value]
    })
  )
}

/** The messages of a block. */
export const messagesOf = ({ text, page, line }: Block): ReadonlyArray<Json> =>
  text
    .split(/\n(?=[{["])/)
    .filter((message) => message.trim() !== "")
    .map((message) => {
      try {
        return JSON.parse(message)
      } catch (error) {
        throw new Error(`${page}:${line}: ${error}: ${message}`)
      }
    })

export const isSent = (message: Json): boolean =>
  Array.isArray(message) ||
  message.method === "initialized" ||
  message.method === "process/ack" ||
  message.method === "attachment/ack" ||
  (message.method !== undefined && "id" in message)

/** A page shows a binary frame as a string of hexadecimal digits. */
const frameOf = (shown: string): Json => JSON.parse(textOf(Buffer.from(shown.replaceAll(/[^0-9a-f]/g, ""), "hex")))

/** Plays a block on its own connection. Any difference from the page is a defect. */
export const play = (
  block: Block,
  connect: Effect.Effect<TestClient, never, Scope.Scope>,
  context: Context
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { places, names } = context
    const where = `${block.page}:${block.line}`
    const client = yield* connect
    const seen = new Set<Json>()
    const text = places.reduce((text, [shown, actual]) => text.replaceAll(shown, actual), block.text)
    const messages = messagesOf({ ...block, text })
    if (messages[0]?.method !== "initialize" && !Array.isArray(messages[0])) {
      yield* client.handshake()
      client.messages.length = 0
    }

    /** Whether a message is the one on the page: a response by its id, a notification by its method and process. */
    const isFor = (shown: Json) => (message: Json) => {
      if (seen.has(message)) return false
      if (shown.method === undefined) return message.method === undefined && message.id === shown.id
      return message.method === shown.method && message.params?.processId === shown.params?.processId
    }

    const send = (message: Json): Effect.Effect<void> =>
      Effect.gen(function* () {
        let text = JSON.stringify(message)
        for (const [shown, actual] of names) text = text.replaceAll(JSON.stringify(shown), JSON.stringify(actual))
        const { resumeSessionId } = message.params ?? {}
        if (resumeSessionId != null) client.resumed = true
        client.raw(text)
        if (resumeSessionId == null) return
        // The server may not have noticed yet that the previous connection is gone.
        const answer = yield* client.message("the answer", isFor({ id: message.id }))
        if (answer.error?.code !== -32010) return
        seen.add(answer)
        yield* send(message)
      })

    for (const shown of messages) {
      if (isSent(shown)) {
        yield* send(shown)
        continue
      }
      const expected = typeof shown === "string" ? frameOf(shown) : shown
      if (client.resumed && expected.params?.processId !== undefined) client.knows(expected.params.processId)
      const actual = yield* Effect.catchAllDefect(client.message(JSON.stringify(shown), isFor(expected)), (defect) =>
        Effect.dieMessage(`${where}: ${defect}`)
      )
      seen.add(actual)
      const all = client.messages.map((message) => JSON.stringify(message)).join("\n")
      assert.deepStrictEqual(masked(actual, expected, context), expected, `${where}; what came:\n${all}\n`)
    }
    const rest = client.messages.filter((message) => !seen.has(message))
    assert.deepStrictEqual(rest, [], `${where}: more came than the page shows`)
  }).pipe(Effect.scoped)
