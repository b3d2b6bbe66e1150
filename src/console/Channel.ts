/**
 * Requests and notifications on one open socket.
 *
 * @since 0.1.0
 */
import { decode, type Frame } from "./Frames.js"
import type { Method, Notifications, Params, Result } from "./Wire.js"

/** What is used of a WebSocket. */
export interface Socket {
  binaryType: string
  readonly send: (data: string) => void
  readonly close: (code?: number, reason?: string) => void
  onopen: ((event: never) => void) | null
  onmessage: ((event: never) => void) | null
  onclose: ((event: never) => void) | null
}

/** Why a request has no result. */
export type Failure =
  | { readonly _tag: "Refused"; readonly code: number; readonly message: string }
  | { readonly _tag: "Disconnected" }
  | { readonly _tag: "Silent"; readonly method: string }

const messageOf = (failure: Failure): string => {
  switch (failure._tag) {
    case "Refused":
      return failure.message
    case "Disconnected":
      return "there is no connection to the server; try again when it is back"
    case "Silent":
      return `the server did not answer ${failure.method} in time; try again`
  }
}

/** A request without a result. */
export class CallError extends Error {
  constructor(readonly failure: Failure) {
    super(messageOf(failure))
  }
}

/** What to tell somebody of something that was thrown. */
export const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** One notification: a method and its parameters. */
export type Notification = {
  [M in keyof Notifications]: { readonly method: M; readonly params: Notifications[M] }
}[keyof Notifications]

/** How long an answer may take, in milliseconds. */
const patienceMs = 60_000

interface Pending {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: CallError) => void
  readonly timer: ReturnType<typeof setTimeout>
}

/** What a channel tells of. */
export interface Events {
  readonly onNotification: (notification: Notification) => void
  readonly onFrame: (frame: Frame) => void
}

interface Message {
  readonly id?: number
  readonly method?: string
  readonly params?: unknown
  readonly result?: unknown
  readonly error?: { readonly code: number; readonly message: string }
}

/** One open socket. */
export class Channel {
  private readonly pending = new Map<number, Pending>()
  private lastId = 0
  private isOpen = true

  constructor(
    private readonly socket: Socket,
    private readonly events: Events
  ) {}

  /** Asks; fails with a `CallError`. */
  call<M extends Method>(method: M, params: Params<M>, waitMs = patienceMs): Promise<Result<M>> {
    return new Promise<Result<M>>((resolve, reject) => {
      if (!this.isOpen) return reject(new CallError({ _tag: "Disconnected" }))
      const id = ++this.lastId
      const timer = setTimeout(() => {
        this.pending.delete(id)
        reject(new CallError({ _tag: "Silent", method }))
      }, waitMs)
      this.pending.set(id, { resolve: (result) => resolve(result as Result<M>), reject, timer })
      this.send({ id, method, params })
    })
  }

  /** Tells. */
  notify(method: "initialized" | "process/ack" | "attachment/ack", params?: object): void {
    if (this.isOpen) this.send({ method, params })
  }

  /** What the socket has received. */
  receive(data: string | ArrayBuffer): void {
    if (typeof data !== "string") {
      const frame = decode(data)
      if (frame !== undefined) this.events.onFrame(frame)
      return
    }
    const message: Message = JSON.parse(data)
    if (message.method !== undefined) this.events.onNotification(message as Notification)
    const pending = message.id === undefined ? undefined : this.take(message.id)
    if (pending === undefined) return
    if (message.error === undefined) pending.resolve(message.result)
    else pending.reject(new CallError({ _tag: "Refused", ...message.error }))
  }

  /** The socket is lost: nothing will be answered any more. */
  end(): void {
    this.isOpen = false
    for (const id of Array.from(this.pending.keys())) this.take(id)?.reject(new CallError({ _tag: "Disconnected" }))
  }

  private take(id: number): Pending | undefined {
    const pending = this.pending.get(id)
    if (pending !== undefined) clearTimeout(pending.timer)
    this.pending.delete(id)
    return pending
  }

  private send(message: object): void {
    this.socket.send(JSON.stringify(message))
  }
}
