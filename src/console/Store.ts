/**
 * The sessions and processes that the token lets the page see, and what they use: read once, and again when something
 * changes.
 *
 * @since 0.1.0
 */
import { signal } from "@preact/signals"
import { CallError } from "./Channel.js"
import type { Connection } from "./Connection.js"
import type { GrantInfo, ProcessInfo, SessionInfo, UsageSample } from "./Wire.js"

/**
 * When the lists are read again, in milliseconds: soon after a change, and at times without one, as nobody tells how much is
 * printed. A long list is read for at most a fraction of the time.
 */
const refresh = { soonMs: 200, everyMs: 5000, fraction: 0.1 }

/** How often usage is sampled, and how many samples are kept. */
const sampling = { everyMs: 2000, kept: 150 }

/** What a process used around one time. */
export interface Point {
  readonly atMs: number
  /** Percent of one core. */
  readonly cpu: number
  readonly rssBytes: number
}

/** What the server used around one time. */
export interface ServerPoint extends Point {
  readonly eventLoopDelayMs: number
  /** How many processes are alive, and what they use together. */
  readonly processes: number
  readonly processesCpu: number
  readonly processesRssBytes: number
}

/** Identifies a process among all. */
export const keyOf = ({ session = "", processId }: { session?: string | undefined; processId: string }): string =>
  `${session}/${processId}`

/** Whether a token shows lists: one for a session or a process does not. */
export const mayList = ({ scope }: GrantInfo): boolean => scope === null

/** Whether a token starts processes. */
export const mayStart = ({ role, scope }: GrantInfo): boolean => role !== "viewer" && scope === null

/** Whether a token changes a process of this session. */
export const mayControl = ({ role, session }: GrantInfo, of: string): boolean =>
  role === "operator" || (role === "client" && of === session)

/** Whether a token records and shares a process of this session. */
export const mayManage = (grant: GrantInfo, of: string): boolean => grant.scope === null && mayControl(grant, of)

const rate = (before: number, after: number, ms: number) => (ms <= 0 ? 0 : (Math.max(0, after - before) / ms) * 100)

/** The store of one connection. */
export class Store {
  readonly sessions = signal<ReadonlyArray<SessionInfo>>([])
  readonly processes = signal<ReadonlyArray<ProcessInfo>>([])
  /** Whether the lists were read. */
  readonly isLoaded = signal(false)
  readonly server = signal<ReadonlyArray<ServerPoint>>([])
  /** The usage of processes, by key. */
  readonly usage = signal<ReadonlyMap<string, ReadonlyArray<Point>>>(new Map())
  private last: UsageSample | undefined
  private timer: ReturnType<typeof setTimeout> | undefined
  private dueAtMs = Number.POSITIVE_INFINITY
  /** How long the lists took to read. */
  private tookMs = 0

  constructor(private readonly connection: Connection) {
    connection.whenOnline(() => this.begin())
    connection.whenLost(() => this.stop())
    connection.on("console/event", () => this.readWithin(Math.max(refresh.soonMs, this.tookMs / refresh.fraction)))
    connection.on("usage/sample", (sample) => this.onSample(sample))
  }

  /** A process in the list. */
  find(session: string, processId: string): ProcessInfo | undefined {
    return this.processes.value.find((one) => one.session === session && one.processId === processId)
  }

  /** Reads the lists now. */
  async read(): Promise<void> {
    const { connection } = this
    const [{ sessions }, { processes }] = await Promise.all([
      connection.call("session/list", {}),
      connection.call("process/list", { session: "*" })
    ])
    this.sessions.value = sessions
    this.processes.value = processes
    this.isLoaded.value = true
  }

  private begin(): void {
    const { connection } = this
    if (connection.grant === undefined || !mayList(connection.grant)) return
    this.last = undefined
    const ignore = (error: unknown) => {
      if (!(error instanceof CallError)) throw error
    }
    connection.call("console/watch", {}).catch(ignore)
    connection.call("usage/watch", { intervalMs: sampling.everyMs }).catch(ignore)
    this.readWithin(0)
  }

  private stop(): void {
    clearTimeout(this.timer)
    this.dueAtMs = Number.POSITIVE_INFINITY
  }

  /** Reads the lists after so long, or earlier if that was wanted before. */
  private readWithin(ms: number): void {
    const dueAtMs = Date.now() + ms
    if (dueAtMs >= this.dueAtMs) return
    this.stop()
    this.dueAtMs = dueAtMs
    this.timer = setTimeout(() => void this.readNow(), ms)
  }

  private async readNow(): Promise<void> {
    const before = Date.now()
    await this.read().catch(() => {})
    this.tookMs = Date.now() - before
    this.dueAtMs = Number.POSITIVE_INFINITY
    if (this.connection.isOnline) this.readWithin(refresh.everyMs)
  }

  private onSample(sample: UsageSample): void {
    const { last } = this
    this.last = sample
    if (last === undefined) return
    const { atMs } = sample
    const ms = atMs - last.atMs
    const before = new Map(last.processes.map((one) => [keyOf(one), one.cpuMs]))
    const usage = new Map<string, ReadonlyArray<Point>>()
    const all = { cpu: 0, rssBytes: 0 }
    for (const one of sample.processes) {
      const key = keyOf(one)
      const cpu = rate(before.get(key) ?? one.cpuMs, one.cpuMs, ms)
      const point = { atMs, cpu, rssBytes: one.rssBytes }
      all.cpu += cpu
      all.rssBytes += one.rssBytes
      usage.set(key, [...(this.usage.value.get(key) ?? []), point].slice(-sampling.kept))
    }
    this.usage.value = usage
    const point = {
      atMs,
      cpu: rate(last.server.cpuMs, sample.server.cpuMs, ms),
      rssBytes: sample.server.rssBytes,
      eventLoopDelayMs: sample.server.eventLoopDelayMs,
      processes: sample.processes.length,
      processesCpu: all.cpu,
      processesRssBytes: all.rssBytes
    }
    this.server.value = [...this.server.value, point].slice(-sampling.kept)
  }
}
