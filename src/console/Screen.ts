/**
 * A terminal on the page. It is a chunk of its own, loaded with the first terminal that is shown.
 *
 * @since 0.1.0
 */
import { FitAddon } from "@xterm/addon-fit"
import { WebLinksAddon } from "@xterm/addon-web-links"
import { type ITheme, Terminal } from "@xterm/xterm"
import * as CellWidth from "../internal/CellWidth.js"
import { fromBase64, fromBinary, utf8 } from "./Bytes.js"
import type { Display } from "./Feed.js"
import { type Place, places } from "./Find.js"
import type { StreamName } from "./Frames.js"
import * as Queries from "./Queries.js"
import type { Size } from "./Wire.js"

/** What a terminal tells of. */
export interface Events {
  /** What is typed. */
  readonly onInput: (bytes: Uint8Array) => void
  readonly onTitle: (title: string) => void
  readonly onBell: () => void
  /** A program wants this text in the clipboard. */
  readonly onCopy: (text: string) => void
  /** Somebody wants to follow a link. */
  readonly onLink: (address: string) => void
  /** A text was pasted. */
  readonly onPaste: (text: string) => void
  /** Keys of the page: copy, paste, search, and to leave the terminal. */
  readonly onShortcut: (shortcut: "copy" | "paste" | "find" | "leave") => void
  /** Whether this terminal answers what programs ask. */
  readonly answers: () => boolean
}

const dark: ITheme = {
  background: "#0f1318",
  foreground: "#d6dde6",
  cursor: "#7cb7ff",
  cursorAccent: "#0f1318",
  selectionBackground: "#2f4f77",
  overviewRulerBorder: "#0f1318",
  black: "#1c232c",
  red: "#f2777a",
  green: "#8fcf7f",
  yellow: "#e6c06a",
  blue: "#7cb7ff",
  magenta: "#c99af0",
  cyan: "#6fcfd6",
  white: "#d6dde6",
  brightBlack: "#7d8997",
  brightRed: "#ff9c9e",
  brightGreen: "#b1e5a4",
  brightYellow: "#f5d68f",
  brightBlue: "#a8d0ff",
  brightMagenta: "#ddbcf8",
  brightCyan: "#9fe4e9",
  brightWhite: "#ffffff"
}

const light: ITheme = {
  background: "#fdfdfc",
  foreground: "#22282f",
  cursor: "#1d5fb4",
  cursorAccent: "#fdfdfc",
  selectionBackground: "#bcd7f7",
  overviewRulerBorder: "#fdfdfc",
  black: "#22282f",
  red: "#b3261e",
  green: "#22701f",
  yellow: "#7d5a00",
  blue: "#1d5fb4",
  magenta: "#7b35a8",
  cyan: "#0b6b74",
  white: "#6a737d",
  brightBlack: "#5a636d",
  brightRed: "#8c1d18",
  brightGreen: "#185216",
  brightYellow: "#5e4400",
  brightBlue: "#134685",
  brightMagenta: "#5b227f",
  brightCyan: "#074e55",
  brightWhite: "#22282f"
}

/**
 * What is read of the internals: what makes a character readable takes text in inverse colours for text in usual ones, and
 * makes it grey. `@xterm/xterm` has an exact version for that.
 */
interface Internals {
  readonly _core: {
    readonly _renderService: { readonly _renderer: { readonly value: { readonly _rowFactory?: RowFactory } } }
  }
}

interface RowFactory {
  _applyMinimumContrast: (
    element: unknown,
    background: unknown,
    foreground: unknown,
    cell: { readonly isInverse: () => number; readonly isFgDefault: () => boolean },
    ...overrides: ReadonlyArray<unknown>
  ) => boolean
}

/** Leaves text in the inverse of the usual colours as it is: it is readable. */
const keepInverse = (terminal: Terminal): void => {
  const factory = (terminal as unknown as Internals)._core._renderService._renderer.value._rowFactory
  if (factory === undefined) return
  const apply = factory._applyMinimumContrast.bind(factory)
  factory._applyMinimumContrast = (element, background, foreground, cell, ...overrides) =>
    !(cell.isInverse() !== 0 && cell.isFgDefault()) && apply(element, background, foreground, cell, ...overrides)
}

/** Sizes of the font in pixels. On small windows a large terminal is moved about instead of being made unreadable. */
const font = { usual: 13.5, smallest: 8 }

/** The keys of the page, with Ctrl and Shift. */
const shortcuts: Readonly<Record<string, "copy" | "paste" | "find" | "leave">> = {
  KeyC: "copy",
  KeyV: "paste",
  KeyF: "find",
  KeyX: "leave"
}

/** The most text that a program may put into the clipboard, as base64. */
const maxCopy = 1_048_576

/** A terminal. */
export class Screen implements Display {
  private readonly terminal: Terminal
  private readonly fitting = new FitAddon()
  /** Whether what is read now is printed now. */
  private isLive = false
  private isNextLive = false
  private places: ReadonlyArray<Place> = []
  private place = -1
  private fontSize = font.usual
  /** Where a finger was last. */
  private touchY = 0

  constructor(
    private readonly element: HTMLElement,
    private readonly events: Events,
    options: { readonly isDark: boolean; readonly readOnly: boolean; readonly screenReader: boolean }
  ) {
    const terminal = new Terminal({
      allowProposedApi: true,
      cursorBlink: false,
      disableStdin: options.readOnly,
      fontFamily: '"DejaVu Sans Mono", ui-monospace, SFMono-Regular, Menlo, Consolas, monospace',
      fontSize: font.usual,
      // With 1, underscores are cut off.
      lineHeight: 1.15,
      linkHandler: { activate: (_event, address) => events.onLink(address) },
      minimumContrastRatio: 4.5,
      screenReaderMode: options.screenReader,
      scrollback: 10_000,
      theme: options.isDark ? dark : light
    })
    this.terminal = terminal
    terminal.loadAddon(this.fitting)
    terminal.unicode.register(CellWidth.provider)
    terminal.unicode.activeVersion = CellWidth.provider.version
    terminal.loadAddon(new WebLinksAddon((_event, address) => events.onLink(address)))
    const answers = () => this.isLive && events.answers()
    Queries.swallow(terminal.parser, answers)
    Queries.onCopy(terminal.parser, (base64) => {
      if (answers() && base64.length <= maxCopy) this.copyOut(base64)
    })
    terminal.open(element)
    keepInverse(terminal)
    terminal.onData((data) => events.onInput(utf8(data)))
    terminal.onBinary((data) => events.onInput(fromBinary(data)))
    terminal.onTitleChange(events.onTitle)
    terminal.onBell(events.onBell)
    terminal.attachCustomKeyEventHandler((event) => this.onKey(event))
    element.addEventListener("paste", this.onPaste, true)
    element.addEventListener("touchstart", this.onTouch, { passive: true })
    element.addEventListener("touchmove", this.onTouch, { passive: false })
  }

  reset(size: Size | null, screen: Uint8Array | null): void {
    // In the order of the output: what is written before is still being read.
    this.terminal.write("\u001bc", () => {
      if (size !== null) this.setSize(size)
    })
    this.output("pty", screen ?? new Uint8Array(0), false, () => {})
  }

  output(_stream: StreamName, bytes: Uint8Array, isLive: boolean, shown: () => void): void {
    if (isLive !== this.isNextLive) {
      this.isNextLive = isLive
      this.terminal.write("", () => {
        this.isLive = isLive
      })
    }
    this.terminal.write(bytes, shown)
  }

  resize(size: Size): void {
    this.terminal.write("", () => this.setSize(size))
  }

  gap(bytes: number): void {
    this.terminal.write(`\r\n\u001b[0;2m[${bytes > 0 ? `${bytes} bytes of ` : ""}output not shown]\u001b[0m\r\n`)
  }

  /** The size that fits into the element, with the usual font; undefined while it is hidden. */
  proposedSize(): Size | undefined {
    this.setFont(font.usual)
    const size = this.fitting.proposeDimensions()
    return size === undefined || Number.isNaN(size.cols) || Number.isNaN(size.rows) ? undefined : size
  }

  /** The size of the terminal. */
  get size(): Size {
    return { rows: this.terminal.rows, cols: this.terminal.cols }
  }

  /** Takes a size at once. */
  setSize({ rows, cols }: Size): void {
    if (rows !== this.terminal.rows || cols !== this.terminal.cols) this.terminal.resize(cols, rows)
  }

  /** Makes the font so small that the whole terminal is seen; not larger than usual. */
  scale(): void {
    const fits = this.proposedSize()
    if (fits === undefined) return
    const { rows, cols } = this.size
    const factor = Math.min(1, fits.cols / cols, fits.rows / rows)
    this.setFont(Math.max(font.smallest, Math.floor(font.usual * factor * 10) / 10))
  }

  /** Puts the keyboard on the terminal. */
  focus(): void {
    this.terminal.focus()
  }

  /** Follows the theme of the page. */
  setDark(isDark: boolean): void {
    this.terminal.options.theme = isDark ? dark : light
  }

  /** Tells screen readers what is printed. */
  setScreenReader(isOn: boolean): void {
    this.terminal.options.screenReaderMode = isOn
  }

  /** Whether what is typed goes anywhere. */
  setReadOnly(isOn: boolean): void {
    this.terminal.options.disableStdin = isOn
  }

  /** Whether the program wants to tell pastes from keys. */
  get wantsBrackets(): boolean {
    return this.terminal.modes.bracketedPasteMode
  }

  /** Whether the program wants cursor keys of the other kind. */
  get wantsApplicationKeys(): boolean {
    return this.terminal.modes.applicationCursorKeysMode
  }

  /** The selected text. */
  get selection(): string {
    return this.terminal.getSelection()
  }

  /** All lines, those above the screen too. */
  text(): string {
    const { active } = this.terminal.buffer
    let text = ""
    for (let row = 0; row < active.length; row++) {
      const line = active.getLine(row)
      const next = active.getLine(row + 1)
      if (line !== undefined) text += line.translateToString(next?.isWrapped !== true)
      if (next?.isWrapped !== true) text += "\n"
    }
    return text.replace(/\n+$/, "\n")
  }

  /** Selects the next place of a text, or the one before. Gives which one of how many. */
  find(text: string, direction: "first" | "next" | "previous"): { readonly at: number; readonly of: number } {
    if (direction === "first") {
      this.places = places(this.terminal.buffer.active, text)
      this.place = this.places.length
    }
    const { length } = this.places
    if (length === 0) {
      this.terminal.clearSelection()
      return { at: 0, of: 0 }
    }
    this.place = direction === "next" ? (this.place + 1) % length : (this.place - 1 + length) % length
    const found = this.places[this.place]
    if (found !== undefined) {
      this.terminal.select(found.col, found.row, found.cells)
      this.terminal.scrollToLine(Math.max(0, found.row - Math.floor(this.terminal.rows / 2)))
    }
    return { at: this.place + 1, of: length }
  }

  /** Draws with the graphics processor, as long as the browser lets it. */
  async accelerate(): Promise<void> {
    const { WebglAddon } = await import("@xterm/addon-webgl")
    const addon = new WebglAddon()
    addon.onContextLoss(() => addon.dispose())
    this.terminal.loadAddon(addon)
  }

  /** Loads what writes the screen down; gives how. */
  async serializer(): Promise<() => string> {
    const { SerializeAddon } = await import("@xterm/addon-serialize")
    const addon = new SerializeAddon()
    this.terminal.loadAddon(addon)
    return () => addon.serialize({ scrollback: 1000 })
  }

  /** Calls back when everything is shown that was written before, and nothing that is written after. */
  mark(listener: () => void): void {
    this.terminal.write("", listener)
  }

  /** Ends it. */
  dispose(): void {
    this.element.removeEventListener("paste", this.onPaste, true)
    this.element.removeEventListener("touchstart", this.onTouch)
    this.element.removeEventListener("touchmove", this.onTouch)
    this.terminal.dispose()
  }

  private setFont(size: number): void {
    if (size === this.fontSize) return
    this.fontSize = size
    this.terminal.options.fontSize = size
  }

  private readonly onPaste = (event: ClipboardEvent): void => {
    event.preventDefault()
    event.stopPropagation()
    this.events.onPaste(event.clipboardData?.getData("text/plain") ?? "")
  }

  /** The emulator knows no touch. A finger scrolls, unless it moves a terminal that is larger than the window. */
  private readonly onTouch = (event: TouchEvent): void => {
    const [touch, second] = Array.from(event.touches)
    const box = this.element.parentElement
    const isLarger = box !== null && box.scrollHeight > box.clientHeight + 1
    if (touch === undefined || second !== undefined || isLarger) return
    const { clientX, clientY } = touch
    if (event.type === "touchmove") {
      event.preventDefault()
      this.scrollBy(this.touchY - clientY, clientX, clientY)
    } else this.touchY = clientY
  }

  /** Scrolls by so many pixels; a program that has the whole screen, or the mouse, gets them from the wheel. */
  private scrollBy(deltaY: number, clientX: number, clientY: number): void {
    const { buffer, modes, rows } = this.terminal
    const drawn = this.element.querySelector(".xterm-screen")
    const lines = Math.trunc((deltaY * rows) / (drawn?.clientHeight ?? this.element.clientHeight))
    if (lines === 0) return
    this.touchY = clientY
    if (buffer.active.type === "normal" && modes.mouseTrackingMode === "none") this.terminal.scrollLines(lines)
    else drawn?.dispatchEvent(new WheelEvent("wheel", { deltaY, clientX, clientY, bubbles: true, cancelable: true }))
  }

  private onKey(event: KeyboardEvent): boolean {
    const shortcut = event.ctrlKey && event.shiftKey && !event.altKey ? shortcuts[event.code] : undefined
    if (shortcut === undefined) return true
    event.preventDefault()
    if (event.type === "keydown") this.events.onShortcut(shortcut)
    return false
  }

  private copyOut(base64: string): void {
    try {
      this.events.onCopy(new TextDecoder().decode(fromBase64(base64)))
    } catch {
      // No base64: nothing to copy.
    }
  }
}
