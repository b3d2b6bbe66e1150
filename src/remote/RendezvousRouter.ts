/**
 * Routes the frames of one environment between its executor and its clients, by stream id alone. Acknowledgements,
 * retransmission and segmentation are handled by the two ends.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as RelayFrame from "./RelayFrame.js"
import { highWaterBytes, type RelaySocket } from "./RelaySocket.js"

/** The limits of one environment. */
export interface Limits {
  readonly maxClientsPerEnvironment: number
  readonly maxStreamsPerClient: number
  /** A client with more unsent bytes than this is disconnected: it would delay the others. */
  readonly maxQueuedBytesPerClient: number
  /**
   * Above this many unsent bytes of all clients together, the executor is not read. If that does not help within
   * two seconds, the clients with the most are disconnected.
   */
  readonly maxQueuedBytesPerEnvironment: number
}

/** How long clients that do not read may hold up an environment, in milliseconds. */
const patienceMs = 2000

/** A connected client, and the streams it has opened. */
interface Client {
  readonly socket: RelaySocket
  readonly streams: Set<string>
  /** Its unsent bytes when they were last counted. */
  queued: number
}

/** Codes of close frames. */
const code = { normal: 1000, policy: 1008, later: 1013 } as const

/** An environment: at most one executor, and its clients. */
export class RendezvousRouter {
  private executor: RelaySocket | undefined
  /** Callbacks waiting for the current probe. */
  private readonly askers: Array<(isAlive: boolean) => void> = []
  private readonly clients = new Set<Client>()
  private readonly owners = new Map<string, Client>()
  private readonly held = new Set<RelaySocket>()
  /** The unsent bytes of all clients when they were last counted. */
  private queued = 0
  /** Runs while the executor is not read. */
  private relief: NodeJS.Timeout | undefined

  constructor(
    private readonly limits: Limits,
    private readonly warn: (message: string) => void,
    /** Called when the last one has disconnected. */
    private readonly onIdle: () => void
  ) {}

  get isOnline(): boolean {
    return this.executor !== undefined
  }

  get isFull(): boolean {
    return this.clients.size >= this.limits.maxClientsPerEnvironment
  }

  /**
   * Reports whether the executor answers a ping, and disconnects it otherwise. Concurrent probes share one ping.
   */
  probe(onAnswer: (isAlive: boolean) => void): void {
    this.askers.push(onAnswer)
    if (this.askers.length > 1) return
    const { executor } = this
    const tell = (isAlive: boolean) => {
      if (executor !== undefined && !isAlive) {
        executor.close(code.normal, "another executor has come, and this one did not answer")
        this.removeExecutor(executor)
      }
      for (const answer of this.askers.splice(0)) answer(isAlive)
    }
    if (executor === undefined) tell(false)
    else executor.probe(tell)
  }

  /** Sets the executor. Call it only when there is none. */
  addExecutor(socket: RelaySocket): void {
    this.executor = socket
    const drop = this.dropper("an executor")
    socket.listen({
      onFrame: (bytes) => {
        const route = RelayFrame.route(bytes)
        if (Either.isLeft(route)) drop(route.left)
        else if (this.executor === socket) this.toClient(route.right, bytes)
      },
      onText: () => drop(RelayFrame.textDrop),
      onDrain: () => this.resumeClients(),
      onEnd: () => this.removeExecutor(socket)
    })
  }

  addClient(socket: RelaySocket): void {
    const client: Client = { socket, streams: new Set(), queued: 0 }
    this.clients.add(client)
    const drop = this.dropper("a client")
    socket.listen({
      onFrame: (bytes) => {
        const route = RelayFrame.route(bytes)
        if (Either.isLeft(route)) drop(route.left)
        else this.toExecutor(client, route.right, bytes)
      },
      onText: () => drop(RelayFrame.textDrop),
      onDrain: () => {
        this.count(client)
        this.checkRelief()
      },
      onEnd: () => this.removeClient(client, "the client is gone")
    })
  }

  /** Disconnects the executor, and with it its clients. Another one may come at once. */
  disconnect(reason: string): void {
    const { executor } = this
    if (executor === undefined) return
    executor.close(code.later, reason)
    this.removeExecutor(executor)
  }

  /** Ends every connection. */
  close(reason: string): void {
    for (const { socket } of this.clients) socket.close(1001, reason)
    this.executor?.close(1001, reason)
  }

  private dropper(who: string) {
    const seen = new Set<RelayFrame.DropReason>()
    return ({ reason, message }: RelayFrame.Drop) => {
      if (seen.has(reason)) return
      seen.add(reason)
      this.warn(`${who}: ${message}; it is dropped, and so are others like it`)
    }
  }

  private toExecutor(client: Client, { streamId, isReset }: RelayFrame.Route, bytes: Uint8Array): void {
    const { executor } = this
    if (executor === undefined || !this.clients.has(client)) return
    const owner = this.owners.get(streamId)
    const { maxStreamsPerClient } = this.limits
    const fault =
      owner !== undefined && owner !== client
        ? "the stream belongs to another client"
        : owner === undefined && client.streams.size >= maxStreamsPerClient
          ? `the limit of ${maxStreamsPerClient} streams is reached; end others first`
          : undefined
    if (fault !== undefined) {
      if (!isReset && client.socket.buffered() <= highWaterBytes) {
        client.socket.send(RelayFrame.encodeReset(streamId, fault))
      }
      return
    }
    if (isReset) this.forget(client, streamId)
    else if (owner === undefined) {
      this.owners.set(streamId, client)
      client.streams.add(streamId)
    }
    executor.send(bytes)
    if (executor.buffered() > highWaterBytes) {
      client.socket.pause()
      this.held.add(client.socket)
    }
  }

  private toClient({ streamId, isReset }: RelayFrame.Route, bytes: Uint8Array): void {
    const client = this.owners.get(streamId)
    if (client === undefined) return
    client.socket.send(bytes)
    if (isReset) this.forget(client, streamId)
    this.count(client)
    if (client.queued > this.limits.maxQueuedBytesPerClient) this.cutOff(client)
    else if (this.relief === undefined && this.isOverfull()) {
      this.executor?.pause()
      this.relief = setTimeout(() => this.relieve(), patienceMs)
    }
  }

  private cutOff(client: Client): void {
    this.warn("a client that does not read is cut off")
    this.removeClient(client, "the client does not read")
    client.socket.close(code.policy, "too much is waiting to be read")
  }

  private count(client: Client): void {
    if (!this.clients.has(client)) return
    const queued = client.socket.buffered()
    this.queued += queued - client.queued
    client.queued = queued
  }

  /** Whether too many bytes wait. What was sent meanwhile is counted only if it matters. */
  private isOverfull(): boolean {
    const { maxQueuedBytesPerEnvironment } = this.limits
    if (this.queued > maxQueuedBytesPerEnvironment) for (const client of this.clients) this.count(client)
    return this.queued > maxQueuedBytesPerEnvironment
  }

  /** Reads the executor again, once few enough bytes wait. */
  private checkRelief(): void {
    if (this.relief === undefined || this.isOverfull()) return
    clearTimeout(this.relief)
    this.relief = undefined
    this.executor?.resume()
  }

  /** Disconnects the clients with the most unsent bytes, until few enough wait. */
  private relieve(): void {
    while (this.isOverfull()) {
      this.cutOff(Array.from(this.clients).reduce((most, client) => (client.queued > most.queued ? client : most)))
    }
    this.checkRelief()
  }

  private forget(client: Client, streamId: string): void {
    this.owners.delete(streamId)
    client.streams.delete(streamId)
  }

  private removeClient(client: Client, reason: string): void {
    if (!this.clients.delete(client)) return
    this.queued -= client.queued
    this.held.delete(client.socket)
    for (const streamId of client.streams) {
      this.owners.delete(streamId)
      this.executor?.send(RelayFrame.encodeReset(streamId, reason))
    }
    this.checkRelief()
    this.checkIdle()
  }

  private removeExecutor(socket: RelaySocket): void {
    if (this.executor !== socket) return
    this.executor = undefined
    clearTimeout(this.relief)
    this.relief = undefined
    this.dropClients()
    this.checkIdle()
  }

  /** Disconnects all clients: their streams belonged to the executor that is gone. */
  private dropClients(): void {
    for (const { socket, streams } of this.clients) {
      for (const streamId of streams) socket.send(RelayFrame.encodeReset(streamId, "the executor is gone"))
      streams.clear()
      socket.close(code.later, "the executor is gone")
    }
    this.owners.clear()
    this.clients.clear()
    this.queued = 0
    this.held.clear()
  }

  private resumeClients(): void {
    for (const socket of this.held) socket.resume()
    this.held.clear()
  }

  private checkIdle(): void {
    if (this.executor === undefined && this.clients.size === 0) this.onIdle()
  }
}
