/** A client that sends raw messages over any carrier, and checks the order of each process's events. */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"

/** The deadline of each wait, in milliseconds: far above what a busy machine needs. */
const patienceMs = 30_000

/** Carries messages to a server. */
export interface Carrier {
  readonly send: (text: string) => void
  readonly close: () => void
  readonly pause: () => void
  readonly resume: () => void
}

export interface CarrierEvents {
  readonly onMessage: (text: string) => void
  readonly onEnd: (ending: { readonly code: number; readonly reason: string }) => void
}

// biome-ignore lint/suspicious/noExplicitAny: raw messages are looked into, not trusted
export type Json = any

/** The events of one process, as they arrived. */
interface Track {
  lastSeq: number
  closed: boolean
  readonly output: { stdout: Array<Buffer>; stderr: Array<Buffer>; pty: Array<Buffer> }
  exited: Json
}

export class TestClient {
  readonly messages: Array<Json> = []
  readonly faults: Array<string> = []
  ending: { readonly code: number; readonly reason: string } | undefined
  /** Discards output, for tests that produce more than fits in memory. */
  discard = false
  /** Called with every chunk of output. */
  onOutput: (chunk: Buffer) => void = () => {}
  private readonly tracks = new Map<string, Track>()
  private readonly replies = new Map<string, Json>()
  private readonly started = new Set<string>()
  private readonly waiters = new Set<() => void>()
  private nextId = 1

  constructor(connect: (events: CarrierEvents) => Carrier) {
    this.carrier = connect({
      onMessage: (text) => this.onMessage(text),
      onEnd: (ending) => {
        this.ending = ending
        this.wake()
      }
    })
  }

  readonly carrier: Carrier

  /** Called with every message. */
  onTraffic: (sender: "client" | "server", text: string) => void = () => {}

  /** Sends text unchanged. */
  raw(text: string): void {
    this.onTraffic("client", text)
    this.carrier.send(text)
  }

  /** Sends a request without waiting; returns its id. */
  post(method: string, params?: unknown): number {
    const id = this.nextId++
    this.raw(JSON.stringify({ id, method, params }))
    return id
  }

  /** The reply to a posted request: `{id, result}` or `{id, error}`. */
  reply(id: number | string): Effect.Effect<Json> {
    return this.until(`the reply to ${id}`, () => this.replies.get(JSON.stringify(id)))
  }

  /** Whether a posted request has been replied to. */
  hasReply(id: number | string): boolean {
    return this.replies.has(JSON.stringify(id))
  }

  /** Sends a request and waits for its reply. */
  call(method: string, params?: unknown): Effect.Effect<Json> {
    return Effect.suspend(() => this.reply(this.post(method, params)))
  }

  /** Sends a request and returns its result; an error is a defect. */
  ask(method: string, params?: unknown): Effect.Effect<Json> {
    return Effect.flatMap(this.call(method, params), (reply) =>
      reply.error === undefined
        ? Effect.succeed(reply.result)
        : Effect.dieMessage(`${method} failed: ${JSON.stringify(reply.error)}`)
    )
  }

  /** The capabilities that `initialize` asks for. */
  capabilities: object | undefined

  /** `initialize` and `initialized`. */
  handshake(params: object = { resumeSessionId: null }): Effect.Effect<Json> {
    // Asking for capabilities selects the session dialect.
    const capabilities = "resumeSessionId" in params ? this.capabilities : undefined
    return Effect.tap(this.ask("initialize", { clientName: "test", capabilities, ...params }), () => {
      this.raw('{"method":"initialized"}')
    })
  }

  /** Resumes a session. Retries, because the server may not have noticed the loss of the last connection yet. */
  resume(sessionId: string): Effect.Effect<Json> {
    const params = { clientName: "test", capabilities: this.capabilities, resumeSessionId: sessionId }
    return Effect.flatMap(this.call("initialize", params), ({ error, result }) => {
      if (error?.code === -32010) return Effect.delay(this.resume(sessionId), "20 millis")
      if (error !== undefined) return Effect.dieMessage(`initialize failed: ${JSON.stringify(error)}`)
      this.raw('{"method":"initialized"}')
      return Effect.succeed(result)
    })
  }

  /** Starts a process in /tmp with nothing but a PATH. */
  start(processId: string, argv: ReadonlyArray<string>, more: object = {}): Effect.Effect<Json> {
    return this.ask("process/start", startParams(processId, argv, more))
  }

  /** Starts `/bin/sh -c script`. */
  sh(processId: string, script: string, more: object = {}): Effect.Effect<Json> {
    return this.start(processId, ["/bin/sh", "-c", script], more)
  }

  write(processId: string, text: string | Buffer, more: object = {}): Effect.Effect<Json> {
    return this.call("process/write", { processId, chunk: Buffer.from(text).toString("base64"), ...more })
  }

  /** Waits for `process/closed`; returns the process's `exited` notification. */
  closed(processId: string): Effect.Effect<Json> {
    return this.until(`the close of ${processId}`, () => {
      const track = this.tracks.get(processId)
      return track?.closed === true ? track.exited : undefined
    })
  }

  exited(processId: string): Effect.Effect<Json> {
    return this.until(`the exit of ${processId}`, () => this.tracks.get(processId)?.exited)
  }

  /** Output so far. */
  output(processId: string, stream: "stdout" | "stderr" | "pty" = "stdout"): Buffer {
    return Buffer.concat(this.tracks.get(processId)?.output[stream] ?? [])
  }

  /** Waits until the output contains a text. */
  sees(processId: string, text: string, stream: "stdout" | "stderr" | "pty" = "stdout"): Effect.Effect<string> {
    return this.until(`${JSON.stringify(text)} from ${processId}`, () => {
      const output = this.output(processId, stream).toString()
      return output.includes(text) ? output : undefined
    })
  }

  /** Waits for a notification. */
  notified(method: string, matches: (params: Json) => boolean = () => true): Effect.Effect<Json> {
    return this.until(method, () => this.messages.find((m) => m.method === method && matches(m.params))?.params)
  }

  /** Waits for any message. */
  message(what: string, matches: (message: Json) => boolean): Effect.Effect<Json> {
    return this.until(what, () => this.messages.find(matches))
  }

  /** Waits for the end of the connection. */
  ended(): Effect.Effect<{ readonly code: number; readonly reason: string }> {
    return this.until("the end of the connection", () => this.ending)
  }

  until<A>(what: string, look: () => A | undefined): Effect.Effect<A> {
    return Effect.async<A>((resume) => {
      const done = (result: Effect.Effect<A>) => {
        clearTimeout(timer)
        this.waiters.delete(check)
        resume(result)
      }
      const check = () => {
        const found = look()
        if (found !== undefined) done(Effect.succeed(found))
      }
      const timer = setTimeout(() => {
        const seen = JSON.stringify(this.messages.slice(-5)).slice(0, 2000)
        done(Effect.dieMessage(`waited in vain for ${what}; ending ${JSON.stringify(this.ending)}; last seen: ${seen}`))
      }, patienceMs)
      this.waiters.add(check)
      check()
      return Effect.sync(() => {
        clearTimeout(timer)
        this.waiters.delete(check)
      })
    })
  }

  private onMessage(text: string): void {
    this.onTraffic("server", text)
    const message = JSON.parse(text)
    if (!(this.discard && message.method === "process/output")) this.messages.push(message)
    if (message.method === undefined) {
      this.replies.set(JSON.stringify(message.id), message)
      if (message.result?.processId !== undefined) this.started.add(message.result.processId)
    } else if (message.method !== "console/event" && typeof message.params?.processId === "string")
      this.onEvent(message)
    this.wake()
  }

  private onEvent({ method, params }: Json): void {
    const { processId, seq } = params
    if (method === "process/failed") return
    if (!this.started.has(processId)) this.faults.push(`${method} of ${processId} came before the reply to its start`)
    if (method === "process/started") return
    let track = this.tracks.get(processId)
    if (track === undefined || (track.closed && seq === 1)) {
      track = { lastSeq: 0, closed: false, output: { stdout: [], stderr: [], pty: [] }, exited: undefined }
      this.tracks.set(processId, track)
    }
    if (track.closed) this.faults.push(`${method} of ${processId} came after it was closed`)
    if (seq !== track.lastSeq + 1 && !this.resumed) {
      this.faults.push(`${method} of ${processId} has seq ${seq} after ${track.lastSeq}`)
    }
    track.lastSeq = seq
    if (method === "process/output") {
      const chunk = Buffer.from(params.chunk, "base64")
      this.onOutput(chunk)
      if (!this.discard) track.output[params.stream as "stdout"].push(chunk)
    } else if (method === "process/exited") track.exited = params
    else if (method === "process/closed") track.closed = true
  }

  /** A resumed client has missed events. */
  resumed = false

  /** A resumed client knows processes it did not start. */
  knows(processId: string): void {
    this.resumed = true
    this.started.add(processId)
  }

  private wake(): void {
    for (const waiter of this.waiters) waiter()
  }
}

export const startParams = (processId: string, argv: ReadonlyArray<string>, more: object = {}) => ({
  processId,
  argv,
  cwd: "file:///tmp",
  env: { PATH: "/usr/bin:/bin" },
  tty: false,
  ...more
})
