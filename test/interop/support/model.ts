/** A model that says what a test tells it to: the Responses API, as server-sent events. */
import { Buffer } from "node:buffer"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { Json } from "../../support/TestClient.js"

/** A request of the client that waits for what the model says. */
export interface Turn {
  /** What the client has sent for calls of the model, by the calls' ids. */
  readonly outputs: ReadonlyMap<string, string>
  /** All of the request. */
  readonly text: string
  readonly say: (items: ReadonlyArray<object>) => void
}

export interface Model {
  readonly baseUrl: string
  readonly turns: Queue.Dequeue<Turn>
}

/** A call's output is text, or a list of texts and pictures. */
const textOf = (output: Json): string =>
  typeof output === "string" ? output : output.map((part: Json) => part.text ?? part.image_url ?? "").join("")

const outputsOf = (body: Json): ReadonlyMap<string, string> =>
  new Map(
    body.input
      .filter((item: Json) => typeof item.type === "string" && item.type.endsWith("_call_output"))
      .map((item: Json) => [item.call_id, textOf(item.output)])
  )

const usage = {
  input_tokens: 1,
  input_tokens_details: null,
  output_tokens: 1,
  output_tokens_details: null,
  total_tokens: 2
}

const speak = (response: ServerResponse, id: string, items: ReadonlyArray<object>) => {
  const events = [
    { type: "response.created", response: { id } },
    ...items.map((item, i) => ({ type: "response.output_item.done", item: { id: `${id}_${i}`, ...item } })),
    { type: "response.completed", response: { id, usage } }
  ]
  response.writeHead(200, { "content-type": "text/event-stream" })
  response.end(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(""))
}

const read = async (request: IncomingMessage): Promise<string> => {
  const parts: Array<Buffer> = []
  for await (const part of request) parts.push(part)
  return Buffer.concat(parts).toString()
}

/** Serves until the scope closes. */
export const model: Effect.Effect<Model, never, Scope.Scope> = Effect.gen(function* () {
  const turns = yield* Queue.unbounded<Turn>()
  const runSync = Runtime.runSync(yield* Effect.runtime<never>())
  let responses = 0
  const server = createServer((request, response) => {
    if (request.method !== "POST" || request.url !== "/v1/responses") return void response.writeHead(404).end()
    read(request).then(
      (text) => {
        const say = (items: ReadonlyArray<object>) => speak(response, `resp_${++responses}`, items)
        runSync(Queue.offer(turns, { outputs: outputsOf(JSON.parse(text)), text, say }))
      },
      // The client has hung up; there is nobody to answer.
      () => {}
    )
  })
  const { port } = yield* Effect.acquireRelease(
    Effect.async<AddressInfo>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server.address() as AddressInfo)))
    }),
    () =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  )
  return { baseUrl: `http://127.0.0.1:${port}/v1`, turns }
})
