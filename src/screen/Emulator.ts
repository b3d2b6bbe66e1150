/**
 * The emulated terminal of a process: what its screen shows, and the bytes that make an empty terminal of the same size
 * show it too.
 *
 * `@xterm/addon-serialize` leaves out some of it: colours leak from the normal screen into the alternate one, and the
 * scroll region, the hidden cursor and the encoding of mouse reports are missing. These are added here, from internals of
 * `@xterm/headless`, whose version is therefore exact.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import Serialize from "@xterm/addon-serialize"
import Headless from "@xterm/headless"
import * as CellWidth from "../internal/CellWidth.js"
import * as BoundedSequences from "./BoundedSequences.js"
import type { ScreenText } from "./ScreenMessages.js"
import { Unfinished } from "./Unfinished.js"

/** What is read of the internals. */
interface Core {
  readonly writeSync: (bytes: Uint8Array) => void
  readonly coreService: {
    readonly isCursorHidden: boolean
    readonly decPrivateModes: { readonly origin: boolean }
  }
  readonly _inputHandler: BoundedSequences.InputHandler
  readonly coreMouseService: { readonly activeEncoding: string }
  readonly _bufferService: {
    readonly buffer: {
      readonly scrollTop: number
      readonly scrollBottom: number
      readonly x: number
      readonly y: number
      readonly ybase: number
      readonly savedX: number
      readonly savedY: number
    }
  }
}

/** The part of the addon that writes the modes alone. */
interface Modes {
  readonly _serializeModes: (terminal: unknown) => string
}

/**
 * The addon's change to the alternate screen. It saves the colours for the way back, and keeps them: they must be those
 * from before the program that changed to it.
 */
const toAlternate = "\u001b[?1049h\u001b[H"

/** The most cells of a buffer, 12 bytes each: wide terminals have fewer lines above the screen. */
const maxCells = 400_000

/** How many lines above a screen of this size are kept. */
const linesAbove = (rows: number, cols: number, wanted: number): number =>
  Math.max(0, Math.min(wanted, Math.floor(maxCells / cols) - rows))

/** Longer titles are cut. */
const maxTitleLength = 1024

/** One emulated terminal. */
export class Emulator {
  private readonly terminal: InstanceType<typeof Headless.Terminal>
  private readonly serializer = new Serialize.SerializeAddon()
  private readonly core: Core
  private readonly unfinished = new Unfinished()
  /** Where the cursor of the normal screen stood when it was last marked. */
  private marker: ReturnType<InstanceType<typeof Headless.Terminal>["registerMarker"]> | undefined
  /** The title that the program has set. */
  title: string | null = null

  constructor(
    rows: number,
    cols: number,
    private readonly scrollback: number
  ) {
    const lines = linesAbove(rows, cols, scrollback)
    this.terminal = new Headless.Terminal({ rows, cols, scrollback: lines, allowProposedApi: true, logLevel: "off" })
    this.terminal.unicode.register(CellWidth.provider)
    this.terminal.unicode.activeVersion = CellWidth.provider.version
    // The addon's types are those of the terminal for browsers.
    this.terminal.loadAddon(this.serializer as unknown as Parameters<typeof this.terminal.loadAddon>[0])
    this.core = (this.terminal as unknown as { readonly _core: Core })._core
    BoundedSequences.bound(this.terminal, this.core._inputHandler)
    this.terminal.onTitleChange((title) => {
      this.title = title.slice(0, maxTitleLength)
    })
  }

  /** Takes output. It is on the screen when this returns. */
  write(bytes: Buffer): void {
    this.core.writeSync(bytes)
    this.unfinished.push(bytes)
  }

  /** Changes the size, as for output that follows. */
  resize(rows: number, cols: number): void {
    const lines = linesAbove(rows, cols, this.scrollback)
    // Fewer lines before they become wider, more of them after.
    if (cols > this.terminal.cols) this.terminal.options.scrollback = lines
    this.terminal.resize(cols, rows)
    this.terminal.options.scrollback = lines
  }

  /** The bytes that show the screen and up to so many lines above it. */
  serialize(scrollback: number): Buffer {
    const content = this.serializer.serialize({ scrollback, excludeModes: true })
    // Only cells come before it, which have no escape characters.
    const title = this.title === null ? "" : `\u001b]2;${this.title}\u0007`
    const text = `${title}${content.replace(toAlternate, `\u001b[0m${toAlternate}`)}${this.modes()}`
    return Buffer.concat([Buffer.from(text), this.unfinished.bytes])
  }

  /** Remembers where the cursor stands, for `text`. In the alternate screen, the mark of the normal one stays. */
  mark(): void {
    if (this.terminal.buffer.active.type === "alternate") return
    this.marker?.dispose()
    this.marker = this.terminal.registerMarker(0)
  }

  /** What it shows, as text. */
  text(): ScreenText {
    const { rows, cols, buffer } = this.terminal
    const { active } = buffer
    return {
      screen: Array.from({ length: rows }, (_, row) =>
        (active.getLine(active.baseY + row)?.translateToString(true) ?? "").trimEnd()
      ),
      cursor: { row: active.cursorY, col: active.cursorX },
      size: { rows, cols },
      isFullScreen: active.type === "alternate",
      since: this.since()
    }
  }

  /** Frees its memory. */
  dispose(): void {
    this.terminal.dispose()
  }

  private since(): ReadonlyArray<string> | undefined {
    const { normal } = this.terminal.buffer
    if (this.marker?.isDisposed === true) return undefined
    // Nothing was dropped from the start if there is room left above the screen.
    if (this.marker === undefined && normal.baseY >= (this.terminal.options.scrollback ?? 0)) return undefined
    const first = Math.min(this.marker?.line ?? 0, normal.baseY + normal.cursorY)
    const lines: Array<string> = []
    for (let index = first; index < normal.length; index++) {
      const line = normal.getLine(index)
      const isContinued = normal.getLine(index + 1)?.isWrapped === true
      const text = line?.translateToString(!isContinued) ?? ""
      if (line?.isWrapped === true && index > first) lines.push(`${lines.pop() ?? ""}${text}`)
      else lines.push(text)
    }
    while (lines.at(-1) === "") lines.pop()
    return lines
  }

  private modes(): string {
    const { coreService, coreMouseService, _bufferService } = this.core
    const { scrollTop, scrollBottom, x, y, ybase, savedX, savedY } = _bufferService.buffer
    const { rows, cols } = this.terminal
    const { origin } = coreService.decPrivateModes
    const hasRegion = scrollTop > 0 || scrollBottom < rows - 1
    const modes = (this.serializer as unknown as Modes)._serializeModes(this.terminal)
    const mouse = { SGR: "\u001b[?1006h", SGR_PIXELS: "\u001b[?1016h" }[coreMouseService.activeEncoding] ?? ""
    const cursor = coreService.isCursorHidden ? "\u001b[?25l" : ""
    const region = hasRegion ? `\u001b[${scrollTop + 1};${scrollBottom + 1}r` : ""
    // Setting the region or the origin moves the cursor; saving and restoring it keeps even a wrap that is pending.
    const placed = hasRegion || origin ? `\u001b7${region}${modes}\u001b8` : modes
    const saved = { x: savedX, y: Math.max(0, savedY - ybase) }
    const hasSaved = saved.x > 0 || saved.y > 0
    if (!hasSaved || x >= cols) return `${placed}${mouse}${cursor}`
    const at = (row: number, col: number) =>
      `\u001b[${row + 1 - (origin ? scrollTop : 0)};${Math.min(col, cols - 1) + 1}H`
    return `${placed}${at(saved.y, saved.x)}\u001b7${at(y, x)}${mouse}${cursor}`
  }
}
