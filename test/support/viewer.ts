/** An attachment of a raw client. */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import type { Json, TestClient } from "./TestClient.js"

/** What a client was sent about one attachment. */
export class Viewer {
  constructor(
    readonly client: TestClient,
    /** The answer to `process/attach`. */
    readonly answer: Json
  ) {}

  get id(): number {
    return this.answer.attachmentId
  }

  /** All notifications, in order, as `[method, params]`. */
  get all(): ReadonlyArray<readonly [string, Json]> {
    return this.client.messages
      .filter(({ method, params }) => method?.startsWith("attachment/") && params.attachmentId === this.id)
      .map(({ method, params }) => [method.slice("attachment/".length), params] as const)
  }

  /** The notifications of one kind. */
  of(kind: string): ReadonlyArray<Json> {
    return this.all.flatMap(([method, params]) => (method === kind ? [params] : []))
  }

  get output(): string {
    return Buffer.concat(this.of("output").map(({ chunk }) => Buffer.from(chunk, "base64"))).toString()
  }

  /** The kinds in order, with `seq`. */
  get kinds(): ReadonlyArray<string> {
    return this.all.map(([kind, { seq, type }]) => [kind, type, seq].filter((part) => part !== undefined).join(" "))
  }

  ack(seq: number): void {
    this.client.raw(JSON.stringify({ method: "attachment/ack", params: { attachmentId: this.id, seq } }))
  }

  /** Waits for a notification. */
  notified(kind: string, matches: (params: Json) => boolean = () => true): Effect.Effect<Json> {
    return this.client.notified(`attachment/${kind}`, (params) => params.attachmentId === this.id && matches(params))
  }

  sees(text: string): Effect.Effect<string> {
    return this.client.until(`${JSON.stringify(text)} by attachment ${this.id}`, () =>
      this.output.includes(text) ? this.output : undefined
    )
  }
}

/** Attaches to a process. */
export const attach = (client: TestClient, processId: string, more: object = {}): Effect.Effect<Viewer> =>
  Effect.map(
    client.ask("process/attach", { processId, from: { type: "seq", afterSeq: 0 }, window: 65_536, ...more }),
    (answer) => new Viewer(client, answer)
  )
