/**
 * The output of a process of the own session, which waits until it is shown: nothing is lost, whatever it prints.
 *
 * @since 0.1.0
 */
import { Acks } from "./Acks.js"
import { fromBase64 } from "./Bytes.js"
import { CallError, textOf } from "./Channel.js"
import { type Connection, windowBytes } from "./Connection.js"
import { ackFraction, type Display, type Feed, facts, readBytes, scrollback } from "./Feed.js"
import type { ProcessFrame } from "./Frames.js"
import type { Outputs } from "./Outputs.js"
import type { Result, Size } from "./Wire.js"

/** What is shown, and where. */
export interface Options {
  readonly connection: Connection
  readonly outputs: Outputs
  /** The handle of the own session. */
  readonly session: string
  readonly processId: string
  readonly tty: boolean
  readonly display: Display
}

/** How many of the sizes that were asked for are remembered, to tell them from those of others. */
const rememberedSizes = 8

const keyOf = ({ rows, cols }: Size) => `${rows}x${cols}`

/** A feed of the own session. */
export class OwnFeed implements Feed {
  readonly facts = facts()
  private lastSeq = 0
  /** Output that comes while earlier output is fetched; undefined while nothing is. */
  private held: Array<ProcessFrame> | undefined = []
  /** Counts what was begun: the results of what was begun before do not count. */
  private round = 0
  private acks: Acks
  private sizes: Array<string> = []
  /** The attachment that was made last to see the screen, or who watches. */
  private ownAttachment: number | undefined
  private readonly stops: Array<() => void>

  constructor(private readonly options: Options) {
    const { connection, outputs, processId, session } = options
    this.acks = this.newAcks()
    this.facts.drives.value = options.tty
    const early = outputs.claim(processId)
    this.stops = [
      outputs.listen(processId, (frame) => this.receive(frame)),
      connection.on("process/exited", (exit) => {
        if (exit.processId === processId) this.facts.exit.value = exit
      }),
      connection.on("process/closed", (event) => {
        if (event.processId === processId) this.facts.closed.value = true
      }),
      connection.on("console/event", (event) => {
        if (!("processId" in event) || event.processId !== processId || event.session !== session) return
        if (event.type === "process.resized") this.onResized(event)
        if (event.type === "viewer.joined" && event.attachmentId !== this.ownAttachment) {
          const { attachmentId, name, role } = event
          const viewer = { attachmentId, name, role, size: null, drives: false }
          this.facts.viewers.value = [...this.facts.viewers.value, viewer]
        }
        if (event.type === "viewer.left") {
          this.facts.viewers.value = this.facts.viewers.value.filter((one) => one.attachmentId !== event.attachmentId)
        }
      }),
      connection.whenLost(() => {
        this.round++
        this.held = []
        if (this.facts.phase.value._tag === "Live") this.facts.phase.value = { _tag: "Interrupted" }
      })
    ]
    if (early === undefined) {
      this.stops.push(connection.whenOnline(() => this.begin(this.facts.phase.value._tag === "Loading")))
    } else {
      options.display.reset(null, null)
      for (const frame of early) this.show(frame, true)
      this.live()
      const resume = () => {
        if (this.held !== undefined) this.begin(false)
      }
      this.stops.push(connection.whenOnline(resume))
    }
  }

  answers(): boolean {
    return this.facts.drives.value
  }

  async fit(size: Size): Promise<void> {
    const { connection, processId } = this.options
    this.sizes = [...this.sizes, keyOf(size)].slice(-rememberedSizes)
    this.facts.drives.value = true
    this.facts.size.value = size
    await connection.call("process/resize", { processId, ...size })
  }

  close(): void {
    this.round++
    for (const stop of this.stops) stop()
    const { connection, processId } = this.options
    connection.acknowledge("process/ack", { processId, seq: this.lastSeq })
  }

  private newAcks(): Acks {
    const { connection, processId } = this.options
    return new Acks(windowBytes / ackFraction, (seq) => connection.acknowledge("process/ack", { processId, seq }))
  }

  private receive(frame: ProcessFrame): void {
    if (this.held === undefined) this.show(frame, true)
    else this.held.push(frame)
  }

  private show({ seq, stream, bytes }: Pick<ProcessFrame, "seq" | "stream" | "bytes">, isLive: boolean): void {
    if (seq <= this.lastSeq) return
    this.lastSeq = seq
    const { acks } = this
    this.options.display.output(stream, bytes, isLive, () => acks.shown(seq, bytes.length))
  }

  private onResized({ rows, cols }: Size): void {
    const size = { rows, cols }
    this.facts.size.value = size
    if (this.sizes.includes(keyOf(size))) return
    this.facts.drives.value = false
    this.options.display.resize(size)
    this.seeViewers()
  }

  /** Fetches what is there: all of it, or what came while the connection was lost. */
  private begin(isNew: boolean): void {
    const round = ++this.round
    this.held = []
    this.acks = this.newAcks()
    const isCurrent = () => round === this.round
    const loaded = isNew ? this.load(isCurrent) : this.catchUp(isCurrent)
    if (!isNew) this.seeViewers()
    loaded.then(
      () => {
        if (isCurrent()) this.live()
      },
      (error) => {
        if (!isCurrent() || (error instanceof CallError && error.failure._tag === "Disconnected")) return
        this.facts.phase.value = { _tag: "Over", message: textOf(error) }
      }
    )
  }

  private live(): void {
    const { connection, processId } = this.options
    const { held = [] } = this
    this.held = undefined
    // What was held and fetched as well is not shown again: without this, the process would wait for it for ever.
    connection.acknowledge("process/ack", { processId, seq: this.lastSeq })
    for (const frame of held) this.show(frame, true)
    this.facts.phase.value = { _tag: "Live" }
  }

  /** Asks as those do who watch; nothing of it is followed. */
  private ask(from: { readonly type: "screen"; readonly scrollback: number } | { readonly type: "live" }) {
    const { connection, processId } = this.options
    return connection.call("process/attach", { processId, from, window: 16_384 })
  }

  private seeViewers(): void {
    this.ask({ type: "live" }).then(
      (found) => this.learn(found),
      () => {}
    )
  }

  /** Who watches, as an attachment was told, which is then left. */
  private learn({ attachmentId, viewers }: Pick<Result<"process/attach">, "attachmentId" | "viewers">): void {
    this.ownAttachment = attachmentId
    this.facts.viewers.value = viewers.filter((one) => one.attachmentId !== attachmentId)
    this.options.connection.call("attachment/detach", { attachmentId }).catch(() => {})
  }

  private async load(isCurrent: () => boolean): Promise<void> {
    const { tty, display } = this.options
    this.lastSeq = 0
    if (tty) {
      const found = await this.ask({ type: "screen", scrollback }).catch((error) => {
        if (error instanceof CallError && error.failure._tag === "Refused") return undefined
        throw error
      })
      if (!isCurrent()) return
      if (found !== undefined) {
        this.learn(found)
        display.reset(found.size, found.screen === null ? null : fromBase64(found.screen))
        this.lastSeq = found.seq
        this.facts.size.value = found.size
        this.facts.title.value = found.title
        this.facts.drives.value = !this.facts.viewers.value.some(({ drives }) => drives)
        this.facts.closed.value = found.closed
        if (found.exited) this.facts.exit.value = found
        return
      }
    }
    display.reset(null, null)
    await this.catchUp(isCurrent)
  }

  private async catchUp(isCurrent: () => boolean): Promise<void> {
    const { connection, processId, tty, display } = this.options
    for (;;) {
      const isFirst = this.lastSeq === 0
      const params = { processId, afterSeq: this.lastSeq, maxBytes: readBytes }
      const { chunks, truncated, droppedBytes, exited, closed, exitCode, signal } = await connection.call(
        "process/read",
        params
      )
      if (!isCurrent()) return
      if (truncated && tty && !isFirst) return this.load(isCurrent)
      if (truncated && !isFirst) display.gap(droppedBytes ?? 0)
      for (const { seq, stream, chunk } of chunks) this.show({ seq, stream, bytes: fromBase64(chunk) }, false)
      if (exited) this.facts.exit.value = { exitCode, signal }
      this.facts.closed.value = closed
      if (chunks.length === 0) return
    }
  }
}
