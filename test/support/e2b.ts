/** Clients of `exec-server e2b` that speak HTTP and the Connect protocol themselves. */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Place from "../../src/e2b/Place.js"
import * as Server from "../../src/e2b/Server.js"
import * as Environment from "../../src/environment/Environment.js"

/** A server on a free port in this process; it ends with the scope. */
export const serve = (token?: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function* () {
    const environment = yield* Environment.local("local", { capabilities: { outputWindow: 262_144 } })
    const place = yield* Place.of(environment)
    const address = { host: "127.0.0.1", port: 0 }
    return yield* Server.serve({ address, tls: undefined, token, environment, place })
  }).pipe(Effect.orDie)

/** An answer, with the JSON of its body. */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape.
  readonly body: any
}

/** Sends a request. */
export const request = (url: string, init: RequestInit = {}): Effect.Effect<Answer> =>
  Effect.promise(async (signal) => {
    const response = await fetch(url, { signal, ...init })
    const text = await response.text()
    const isJson = response.headers.get("content-type")?.startsWith("application/json") === true && text !== ""
    return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : undefined }
  })

/** Calls a method that answers once. */
export const unary = (url: string, method: string, given: object = {}, headers: Record<string, string> = {}) =>
  request(`${url}/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(given)
  })

/** A message in its envelope. */
export const envelope = (given: object, flags = 0): Buffer => {
  const body = Buffer.from(JSON.stringify(given))
  const head = Buffer.alloc(5)
  head.writeUInt8(flags, 0)
  head.writeUInt32BE(body.length, 1)
  return Buffer.concat([head, body])
}

/** A message of a stream; the last one is `end`. */
export interface Message {
  readonly flags: number
  // biome-ignore lint/suspicious/noExplicitAny: tests look into messages of every shape.
  readonly body: any
}

/** The messages of an answer that streams. */
export interface Messages {
  /** The next one; undefined after the end of the answer. */
  readonly next: Effect.Effect<Message | undefined>
  /** All that follow. */
  readonly rest: Effect.Effect<ReadonlyArray<Message>>
}

/** Calls a method that answers with a stream. The scope aborts the request. */
export const stream = (
  url: string,
  method: string,
  given: object,
  headers: Record<string, string> = {}
): Effect.Effect<Messages, never, Scope.Scope> =>
  Effect.gen(function* () {
    const controller = new AbortController()
    yield* Effect.addFinalizer(() => Effect.sync(() => controller.abort()))
    const response = yield* Effect.promise(() =>
      fetch(`${url}/${method}`, {
        method: "POST",
        headers: { "content-type": "application/connect+json", ...headers },
        body: envelope(given),
        signal: controller.signal
      })
    )
    const reader = response.body?.getReader()
    let rest = Buffer.alloc(0)
    const next = Effect.promise(async (): Promise<Message | undefined> => {
      for (;;) {
        const length = rest.length < 5 ? undefined : rest.readUInt32BE(1)
        if (length !== undefined && rest.length >= 5 + length) {
          const message = { flags: rest.readUInt8(0), body: JSON.parse(rest.subarray(5, 5 + length).toString()) }
          rest = rest.subarray(5 + length)
          return message
        }
        const read = await reader?.read()
        if (read?.value === undefined) return undefined
        rest = Buffer.concat([rest, read.value])
      }
    })
    const all: Effect.Effect<ReadonlyArray<Message>> = Effect.flatMap(next, (first) =>
      first === undefined ? Effect.succeed([]) : Effect.map(all, (others) => [first, ...others])
    )
    return { next, rest: all }
  })

/** A request to start a shell. */
export const shell = (script: string, more: object = {}) => ({
  process: { cmd: "/bin/sh", args: ["-c", script] },
  stdin: false,
  ...more
})

/** The bytes that messages have of one stream of output. */
export const outputOf = (messages: ReadonlyArray<Message>, of: "stdout" | "stderr" | "pty"): string =>
  Buffer.concat(
    messages.flatMap(({ body }) => {
      const data = body.event?.data?.[of]
      return data === undefined ? [] : [Buffer.from(data, "base64")]
    })
  ).toString()

/** Reads until one stream of output has a text. */
export const until = (messages: Messages, of: "stdout" | "pty", text: string, before = ""): Effect.Effect<string> =>
  before.includes(text)
    ? Effect.succeed(before)
    : Effect.flatMap(messages.next, (message) =>
        message === undefined
          ? Effect.dieMessage(`${JSON.stringify(text)} has not come: ${JSON.stringify(before)}`)
          : until(messages, of, text, before + outputOf([message], of))
      )
