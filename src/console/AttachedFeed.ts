/**
 * The output of a process of another session, which does not wait: what is too much to show is skipped, and replaced by
 * the screen.
 *
 * @since 0.1.0
 */
import { Acks } from "./Acks.js"
import { fromBase64 } from "./Bytes.js"
import { CallError, textOf } from "./Channel.js"
import { type Connection, windowBytes } from "./Connection.js"
import { ackFraction, type Display, type Feed, facts, scrollback } from "./Feed.js"
import type { AttachmentFrame } from "./Frames.js"
import type { EndReason, Result, Size } from "./Wire.js"

/** What is shown, and where. */
export interface Options {
  readonly connection: Connection
  readonly session: string
  readonly processId: string
  readonly display: Display
}

const words: { readonly [R in EndReason]: string } = {
  detached: "you have left this process",
  revoked: "what let you see this process was revoked",
  expired: "your token has expired",
  released: "the process has ended, and its output is no longer kept",
  sessionEnded: "the session of this process has ended"
}

/** A feed of another session. */
export class AttachedFeed implements Feed {
  readonly facts = facts()
  private attachmentId: number | undefined
  private lastSeq: number | undefined
  private acks: Acks | undefined
  private wanted: Size | undefined
  private round = 0
  private readonly stops: Array<() => void>

  constructor(private readonly options: Options) {
    const { connection, display } = options
    const isOwn = (event: { readonly attachmentId: number }) => event.attachmentId === this.attachmentId
    this.stops = [
      connection.onFrame((frame) => {
        if (frame._tag === "Attachment" && isOwn(frame)) this.show(frame)
      }),
      connection.on("attachment/screen", (event) => {
        if (!isOwn(event)) return
        const { seq, size, screen, skippedBytes } = event
        this.lastSeq = seq
        if (screen === null) display.gap(skippedBytes)
        else display.reset(size, fromBase64(screen))
        this.facts.size.value = size
        this.acks?.shown(seq, windowBytes)
      }),
      connection.on("attachment/resized", (event) => {
        if (!isOwn(event)) return
        const { rows, cols, by } = event
        this.facts.size.value = { rows, cols }
        this.facts.drives.value = by === this.attachmentId
        display.resize({ rows, cols })
      }),
      connection.on("attachment/event", (event) => {
        if (!isOwn(event)) return
        this.lastSeq = event.seq
        if (event.type === "exited") this.facts.exit.value = event
        if (event.type === "restarted") this.facts.exit.value = undefined
        if (event.type === "closed") this.facts.closed.value = true
      }),
      connection.on("attachment/viewers", (event) => {
        if (isOwn(event)) this.facts.viewers.value = event.viewers
      }),
      connection.on("attachment/ended", (event) => {
        if (isOwn(event)) this.over(words[event.reason])
      }),
      connection.whenLost(() => {
        this.round++
        this.attachmentId = undefined
        if (this.facts.phase.value._tag === "Live") this.facts.phase.value = { _tag: "Interrupted" }
      }),
      connection.whenOnline(() => this.begin())
    ]
  }

  answers(): boolean {
    return this.facts.drives.value
  }

  async fit(size: Size): Promise<void> {
    const { attachmentId } = this
    if (attachmentId === undefined) throw new CallError({ _tag: "Disconnected" })
    await this.options.connection.call("attachment/drive", { attachmentId, take: true, size })
    this.wanted = size
    this.facts.drives.value = true
    this.facts.size.value = size
  }

  close(): void {
    this.round++
    for (const stop of this.stops) stop()
    const { attachmentId } = this
    if (attachmentId === undefined) return
    this.options.connection.call("attachment/detach", { attachmentId }).catch(() => {})
  }

  private show({ seq, stream, bytes }: AttachmentFrame): void {
    if (this.lastSeq !== undefined && seq <= this.lastSeq) return
    this.lastSeq = seq
    const { acks } = this
    this.options.display.output(stream, bytes, true, () => acks?.shown(seq, bytes.length))
  }

  private over(message: string): void {
    this.attachmentId = undefined
    this.facts.phase.value = { _tag: "Over", message }
  }

  private begin(): void {
    if (this.facts.phase.value._tag === "Over") return
    const round = ++this.round
    const isCurrent = () => round === this.round
    this.attach(isCurrent).catch((error) => {
      if (!isCurrent() || (error instanceof CallError && error.failure._tag === "Disconnected")) return
      this.over(textOf(error))
    })
  }

  private ask(from: { readonly type: "screen"; readonly scrollback: number } | { type: "seq"; afterSeq: number }) {
    const { connection, session, processId } = this.options
    return connection.call("process/attach", { session, processId, from, window: windowBytes })
  }

  /** Attaches: to the screen if there can be one, otherwise to what is retained; later, after what was seen. */
  private async attach(isCurrent: () => boolean): Promise<void> {
    const { connection, display } = this.options
    const { lastSeq } = this
    let found: Result<"process/attach">
    if (lastSeq === undefined) {
      found = await this.ask({ type: "screen", scrollback }).catch((error) => {
        if (!(error instanceof CallError) || error.failure._tag !== "Refused") throw error
        return this.ask({ type: "seq", afterSeq: 0 })
      })
      if (!isCurrent()) return
      display.reset(found.size, found.screen === null ? null : fromBase64(found.screen))
      this.lastSeq = found.seq
      this.facts.title.value = found.title
    } else {
      found = await this.ask({ type: "seq", afterSeq: lastSeq })
      if (!isCurrent()) return
      const { attachmentId, size } = found
      if (found.truncated && size !== null) {
        const screen = await connection.call("attachment/screen", { attachmentId, scrollback })
        if (!isCurrent()) return
        display.reset(screen.size, fromBase64(screen.screen))
        this.lastSeq = screen.seq
      } else if (found.truncated) display.gap(0)
      else if (size !== null) display.resize(size)
    }
    const { attachmentId, size, viewers, exited, closed } = found
    const hadSize = this.facts.drives.value && this.wanted !== undefined && !viewers.some(({ drives }) => drives)
    this.attachmentId = attachmentId
    this.facts.size.value = size
    this.facts.viewers.value = viewers
    this.facts.closed.value = closed
    if (exited) this.facts.exit.value = found
    this.facts.drives.value = false
    this.acks = new Acks(windowBytes / ackFraction, (seq) =>
      connection.acknowledge("attachment/ack", { attachmentId, seq })
    )
    connection.acknowledge("attachment/ack", { attachmentId, seq: this.lastSeq ?? 0 })
    this.facts.phase.value = { _tag: "Live" }
    if (hadSize && this.wanted !== undefined) await this.fit(this.wanted).catch(() => {})
  }
}
