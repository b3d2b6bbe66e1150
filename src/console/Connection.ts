/**
 * The connection of the page: one session, resumed over as many sockets as it takes.
 *
 * A lost socket is replaced, with growing pauses, and its session is taken over: the server may not know yet that the old
 * one is lost. What ends the session for good stops the connection until somebody asks for another one.
 *
 * @since 0.1.0
 */
import { signal } from "@preact/signals"
import { delayMs } from "./Backoff.js"
import { toBase64Url, utf8 } from "./Bytes.js"
import { CallError, Channel, type Notification, type Socket } from "./Channel.js"
import type { Frame } from "./Frames.js"
import type { Diagnosis } from "./Probe.js"
import type { EnvironmentInfo, GrantInfo, Method, Notifications, Params, Result } from "./Wire.js"

/** Why nothing is attempted any more. */
export type Stop =
  | { readonly _tag: "NeedsToken"; readonly message: string }
  | { readonly _tag: "TakenOver"; readonly message: string }
  | { readonly _tag: "Ended"; readonly message: string }
  | { readonly _tag: "Forbidden"; readonly message: string }

/** Where the connection stands. */
export type State =
  | { readonly _tag: "Connecting"; readonly attempt: number }
  | { readonly _tag: "Online"; readonly grant: GrantInfo; readonly info: EnvironmentInfo | null }
  | { readonly _tag: "Waiting"; readonly attempt: number; readonly retryAtMs: number; readonly message: string }
  | { readonly _tag: "Stopped"; readonly stop: Stop }

/** What is kept while the tab lives. */
export interface Memory {
  token: string | undefined
  sessionId: string | undefined
}

/** What the connection needs of the browser. */
export interface Host {
  readonly open: (protocols: ReadonlyArray<string>) => Socket
  readonly diagnose: (hasToken: boolean) => Promise<Diagnosis>
  readonly memory: Memory
  readonly now: () => number
  readonly random: () => number
}

/** How much output may be unacknowledged, in bytes. */
export const windowBytes = 131_072

/** How long the session waits for its client, in milliseconds: the end of a tab does not end a build. */
const sessionTtlMs = 12 * 3_600_000

/** How long the server may take to greet, in milliseconds. */
const greetingMs = 20_000

/** How often a silent connection is tried, and how long an answer may take, in milliseconds. */
const heartbeat = { everyMs: 15_000, withinMs: 8_000 }

type Listener<M extends keyof Notifications> = (params: Notifications[M]) => void

/** The reasons for which the server closes a connection (code 1008) whose session is not to be resumed at once. */
const stopOf = (code: number, reason: string): Stop | undefined => {
  if (code !== 1008) return undefined
  if (reason === "the session was taken over") {
    return { _tag: "TakenOver", message: "this session is open in another window" }
  }
  if (reason === "the session was ended") return { _tag: "Ended", message: reason }
  if (reason.startsWith("the token has expired")) {
    return { _tag: "NeedsToken", message: "the token has expired; sign in with a new one" }
  }
  if (reason.startsWith("the share")) return { _tag: "Ended", message: reason }
  return undefined
}

const isRefused = (error: unknown, text: string): boolean =>
  error instanceof CallError && error.failure._tag === "Refused" && error.failure.message.includes(text)

/** The wait that the server permits instead of one that is too long, in milliseconds; undefined if it permits none. */
const permitted = (error: unknown): number | undefined => {
  const found = error instanceof Error ? /sessionTtlMs may be at most (\d+)/.exec(error.message)?.[1] : undefined
  return found === undefined ? undefined : Number(found)
}

/** The connection. */
export class Connection {
  /** Where it stands. */
  readonly state = signal<State>({ _tag: "Connecting", attempt: 1 })
  private channel: Channel | undefined
  private socket: Socket | undefined
  private timer: ReturnType<typeof setTimeout> | undefined
  private attempt = 0
  private readonly listeners = new Map<string, Set<(params: never) => void>>()
  private readonly onFrames = new Set<(frame: Frame) => void>()
  private readonly onOnline = new Set<() => void>()
  private readonly onLost = new Set<() => void>()

  constructor(private readonly host: Host) {}

  /** Whether requests are answered. */
  get isOnline(): boolean {
    return this.state.value._tag === "Online"
  }

  /** What the token permits; undefined while there is no connection. */
  get grant(): GrantInfo | undefined {
    const state = this.state.value
    return state._tag === "Online" ? state.grant : undefined
  }

  /** Asks; fails with a `CallError`. */
  call<M extends Method>(method: M, params: Params<M>, waitMs?: number): Promise<Result<M>> {
    const { channel } = this
    if (channel === undefined || !this.isOnline) return Promise.reject(new CallError({ _tag: "Disconnected" }))
    return channel.call(method, params, waitMs)
  }

  /** Acknowledges output. */
  acknowledge(method: "process/ack" | "attachment/ack", params: object): void {
    if (this.isOnline) this.channel?.notify(method, params)
  }

  /** Listens for a notification until the returned function is called. */
  on<M extends keyof Notifications>(method: M, listener: Listener<M>): () => void {
    const all = this.listeners.get(method) ?? new Set()
    this.listeners.set(method, all)
    all.add(listener)
    return () => void all.delete(listener)
  }

  /** Listens for output. */
  onFrame(listener: (frame: Frame) => void): () => void {
    this.onFrames.add(listener)
    return () => void this.onFrames.delete(listener)
  }

  /** Calls back now, if there is a connection, and after each time that there is one again. */
  whenOnline(listener: () => void): () => void {
    this.onOnline.add(listener)
    if (this.isOnline) listener()
    return () => void this.onOnline.delete(listener)
  }

  /** Calls back each time that the connection is lost. */
  whenLost(listener: () => void): () => void {
    this.onLost.add(listener)
    return () => void this.onLost.delete(listener)
  }

  /** Connects now, whatever it waits for. */
  connect(): void {
    clearTimeout(this.timer)
    this.drop()
    this.attempt++
    this.state.value = { _tag: "Connecting", attempt: this.attempt }
    const { token } = this.host.memory
    const protocols = ["exec-server.v1", ...(token === undefined ? [] : [`bearer.${toBase64Url(utf8(token))}`])]
    const socket = this.host.open(protocols)
    this.socket = socket
    socket.binaryType = "arraybuffer"
    let opened = false
    const channel = new Channel(socket, {
      onNotification: ({ method, params }) => this.tell(method, params),
      onFrame: (frame) => {
        for (const listener of this.onFrames) listener(frame)
      }
    })
    this.timer = setTimeout(() => this.lost("the server does not answer"), greetingMs)
    socket.onopen = () => {
      opened = true
      this.channel = channel
      this.greet(channel).catch((error) => this.lost(error instanceof Error ? error.message : String(error)))
    }
    socket.onmessage = ({ data }: { readonly data: string | ArrayBuffer }) => channel.receive(data)
    socket.onclose = ({ code, reason }: { readonly code: number; readonly reason: string }) => {
      if (this.socket !== socket) return
      const stop = stopOf(code, reason)
      if (stop !== undefined) this.stop(stop)
      else if (opened) this.lost(reason === "" ? "the connection was lost" : reason)
      else this.find()
    }
  }

  /** Uses another token, or none, with a new session. */
  signIn(token: string | undefined): void {
    this.host.memory.token = token
    this.renew()
  }

  /** Connects with a new session. */
  renew(): void {
    this.host.memory.sessionId = undefined
    this.attempt = 0
    this.connect()
  }

  /** Makes sure that the server still answers, and otherwise connects again. */
  check(withinMs = heartbeat.withinMs): void {
    const { channel, state } = this
    if (state.value._tag === "Waiting") this.connect()
    if (channel === undefined || !this.isOnline) return
    channel.call("environment/status", {}, withinMs).catch(() => {
      if (this.channel === channel && this.isOnline) this.lost("the server does not answer")
    })
  }

  private async greet(channel: Channel): Promise<void> {
    const { memory } = this.host
    const { sessionId, environmentInfo } = await this.initialize(channel, memory.sessionId, sessionTtlMs)
    memory.sessionId = sessionId
    channel.notify("initialized")
    const grant = await channel.call("session/grant", {}, greetingMs)
    if (this.channel !== channel) return
    clearTimeout(this.timer)
    this.attempt = 0
    this.state.value = { _tag: "Online", grant, info: environmentInfo ?? null }
    this.beat()
    for (const listener of Array.from(this.onOnline)) listener()
  }

  /** Opens the session, as far as the server goes along: the old one, and one that waits long. */
  private async initialize(
    channel: Channel,
    resumeSessionId: string | undefined,
    ttlMs: number | undefined
  ): Promise<Result<"initialize">> {
    const params = {
      clientName: "console",
      resumeSessionId: resumeSessionId ?? null,
      takeover: resumeSessionId !== undefined,
      capabilities: { outputWindow: windowBytes, binaryOutput: true },
      ...(ttlMs === undefined ? {} : { sessionTtlMs: ttlMs })
    }
    try {
      return await channel.call("initialize", params, greetingMs)
    } catch (error) {
      if (ttlMs === sessionTtlMs && isRefused(error, "sessionTtlMs")) {
        return this.initialize(channel, resumeSessionId, permitted(error))
      }
      if (resumeSessionId !== undefined && isRefused(error, "unknown session")) {
        return this.initialize(channel, undefined, ttlMs)
      }
      throw error
    }
  }

  private beat(): void {
    this.timer = setTimeout(() => {
      this.check()
      this.beat()
    }, heartbeat.everyMs)
  }

  private tell(method: Notification["method"], params: unknown): void {
    for (const listener of Array.from(this.listeners.get(method) ?? [])) listener(params as never)
  }

  /** Leaves the current socket. */
  private drop(): void {
    const { socket, channel } = this
    this.socket = undefined
    this.channel = undefined
    channel?.end()
    if (socket !== undefined) {
      socket.onclose = null
      socket.onmessage = null
      socket.onopen = null
      socket.close()
    }
  }

  private leave(state: State): void {
    const wasOnline = this.isOnline
    this.drop()
    clearTimeout(this.timer)
    this.state.value = state
    if (wasOnline) for (const listener of Array.from(this.onLost)) listener()
  }

  private lost(message: string): void {
    const attempt = this.attempt + 1
    const waitMs = delayMs(attempt, this.host.random())
    this.leave({ _tag: "Waiting", attempt, retryAtMs: this.host.now() + waitMs, message })
    this.timer = setTimeout(() => this.connect(), waitMs)
  }

  private stop(stop: Stop): void {
    this.leave({ _tag: "Stopped", stop })
  }

  /** The socket was not opened: finds out why. */
  private find(): void {
    const { socket, host } = this
    host.diagnose(host.memory.token !== undefined).then((found) => {
      if (this.socket !== socket) return
      if (found._tag === "NeedsToken" || found._tag === "Forbidden") this.stop(found)
      else this.lost(found.message)
    })
  }
}
