/**
 * The terminal of a process, with what belongs to it: search, copy and paste, keys that phones lack, the size.
 *
 * @since 0.1.0
 */
import { effect, useSignal } from "@preact/signals"
import { useEffect, useRef } from "preact/hooks"
import { utf8 } from "../Bytes.js"
import { ask, attempt, tell } from "../Notices.js"
import { save } from "../Page.js"
import * as Paste from "../Paste.js"
import type { Screen } from "../Screen.js"
import { isDark } from "../Theme.js"
import { visible } from "../VisibleText.js"
import { KeyRow } from "./KeyRow.js"
import { type Opened, openFeed, type PaneProps } from "./Pane.js"

/** Whether the browser is mostly used by touch. */
const isTouch = matchMedia("(pointer: coarse)").matches

/** How long the terminal waits for the end of a change of its element before it takes the size, in milliseconds. */
const settleMs = 80

const screenReaderKey = "exec-server.screenReader"

/** Follows a link once somebody has read where it goes. */
export const follow = async (address: string): Promise<void> => {
  let parsed: URL
  try {
    parsed = new URL(address)
  } catch {
    return tell("This is not a link.", true)
  }
  if (parsed.protocol !== "https:" && parsed.protocol !== "http:") {
    return tell(`Links to ${visible(parsed.protocol, 40)} are not followed.`, true)
  }
  const text = "The process printed this link. It opens in a new tab."
  if (await ask({ title: "Open this link?", text, detail: parsed.href, yes: "Open" })) {
    open(parsed.href, "_blank", "noopener,noreferrer")
  }
}

/** The pane. */
export const TerminalPane = (props: PaneProps & { readonly onTitle: (title: string) => void }) => {
  const { process, mayWrite } = props
  const element = useRef<HTMLDivElement>(null)
  const screen = useRef<Screen | undefined>(undefined)
  const opened = useRef<Opened | undefined>(undefined)
  const leave = useRef<HTMLButtonElement>(null)
  const searchBox = useRef<HTMLInputElement>(null)
  const rings = useSignal(0)
  const isSearching = useSignal(false)
  const wanted = useSignal("")
  const found = useSignal<{ readonly at: number; readonly of: number }>({ at: 0, of: 0 })
  const hasKeys = useSignal(isTouch)
  const isComposing = useSignal(false)
  const composed = useSignal("")
  const reads = useSignal(localStorage.getItem(screenReaderKey) === "on")
  const isGpu = useSignal(false)
  const held = useSignal<{ readonly ctrl: boolean; readonly alt: boolean }>({ ctrl: false, alt: false })
  const ready = useSignal(false)

  const write = (bytes: Uint8Array) => {
    if (mayWrite) opened.current?.input.write(bytes)
  }

  /** What is typed, changed by the keys that are held on the page. */
  const type = (bytes: Uint8Array) => {
    const { ctrl, alt } = held.value
    if (!ctrl && !alt) return write(bytes)
    held.value = { ctrl: false, alt: false }
    const [first] = bytes
    const key = ctrl && bytes.length === 1 && first !== undefined ? Uint8Array.of(first & 31) : bytes
    write(alt ? Uint8Array.from([27, ...key]) : key)
  }

  const paste = async (text: string) => {
    if (!mayWrite) return tell("You may only watch this process.", true)
    const { text: keys, lines, removed } = Paste.filter(text)
    if (keys === "") return
    if (lines > 1) {
      const yes = await ask({
        title: `Paste ${lines} lines?`,
        text: "Each of them may be carried out at once.",
        detail: keys.replaceAll("\r", "\n"),
        yes: "Paste"
      })
      if (!yes) return
    }
    if (removed > 0)
      tell(removed === 1 ? "A control character was left out." : `${removed} control characters were left out.`)
    write(utf8(screen.current?.wantsBrackets === true ? Paste.bracketed(keys) : keys))
    // Once the question is gone: as long as it is there, it has the keyboard.
    setTimeout(() => screen.current?.focus())
  }

  const pasteFromClipboard = () =>
    attempt(async () => {
      await paste(await navigator.clipboard.readText())
    })

  const copy = async () => {
    const text = screen.current?.selection ?? ""
    if (text === "") return tell("Nothing is selected.")
    if (await attempt(() => navigator.clipboard.writeText(text))) tell("Copied.")
  }

  const search = (direction: "first" | "next" | "previous") => {
    found.value = screen.current?.find(wanted.value, direction) ?? { at: 0, of: 0 }
  }

  const openSearch = () => {
    isSearching.value = true
    setTimeout(() => searchBox.current?.focus())
  }

  useEffect(() => {
    let isOver = false
    const stops: Array<() => void> = []
    /** Whether text may be put into the clipboard; undefined until that was asked. A refusal is not asked about again. */
    let mayCopy: boolean | undefined
    let isAsking = false

    const copyOut = async (text: string) => {
      if (mayCopy === undefined) {
        if (isAsking) return
        isAsking = true
        const question =
          "The process wants to put this text into your clipboard, now and later as long as this page is open."
        mayCopy = await ask({ title: "Let it copy?", text: question, detail: text.slice(0, 2000), yes: "Allow" })
        isAsking = false
      }
      if (!mayCopy) return
      if (await attempt(() => navigator.clipboard.writeText(text))) tell("The process has copied text.")
    }

    const begin = async (box: HTMLDivElement) => {
      const { Screen } = await import("../Screen.js")
      if (isOver) return
      const terminal = new Screen(
        box,
        {
          onInput: type,
          onTitle: (title) => props.onTitle(title),
          onBell: () => {
            rings.value++
          },
          onCopy: (text) => void copyOut(text),
          onLink: (address) => void follow(address),
          onPaste: (text) => void paste(text),
          onShortcut: (shortcut) => {
            if (shortcut === "copy") void copy()
            else if (shortcut === "paste") void pasteFromClipboard()
            else if (shortcut === "find") openSearch()
            else leave.current?.focus()
          },
          answers: () => mayWrite && (opened.current?.feed.answers() ?? false)
        },
        { isDark: isDark.value, readOnly: !mayWrite, screenReader: reads.value }
      )
      screen.current = terminal
      const open = openFeed(props, terminal)
      const { feed } = open
      opened.current = open
      ready.value = true
      let timer: ReturnType<typeof setTimeout> | undefined
      let sent = ""
      const lay = () => {
        const { drives, size, exit } = feed.facts
        if (mayWrite && drives.value && exit.value === undefined) {
          const wanted = terminal.proposedSize()
          if (wanted === undefined) return
          terminal.setSize(wanted)
          const key = `${wanted.rows}x${wanted.cols}`
          if (key === sent) return
          sent = key
          feed.fit(wanted).catch(() => {
            sent = ""
          })
        } else {
          sent = ""
          if (size.value !== null) terminal.setSize(size.value)
          terminal.scale()
        }
      }
      const later = () => {
        clearTimeout(timer)
        timer = setTimeout(lay, settleMs)
      }
      const observer = new ResizeObserver(later)
      observer.observe(box)
      lay()
      stops.push(
        () => observer.disconnect(),
        () => clearTimeout(timer),
        effect(() => {
          const { drives, size, phase } = feed.facts
          // What it depends on.
          void [drives.value, size.value, phase.value]
          later()
        }),
        effect(() => terminal.setDark(isDark.value)),
        open.close,
        () => terminal.dispose()
      )
      if (!isTouch) terminal.focus()
    }
    if (element.current !== null) void begin(element.current)
    return () => {
      isOver = true
      for (const stop of stops) stop()
      screen.current = undefined
      opened.current = undefined
    }
  }, [process.session, process.processId, mayWrite])

  const facts = ready.value ? opened.current?.feed.facts : undefined
  const size = facts?.size.value
  const driver = facts?.viewers.value.find(({ drives }) => drives)
  const types = mayWrite && process.running
  const isScaled = types && facts !== undefined && !facts.drives.value

  const fit = () => {
    const wanted = screen.current?.proposedSize()
    if (wanted !== undefined) void attempt(async () => opened.current?.feed.fit(wanted))
  }

  return (
    <div class="pane">
      <div class="tools" role="toolbar" aria-label="Terminal">
        <button type="button" ref={leave} onClick={openSearch}>
          Find
        </button>
        <button type="button" onClick={() => void copy()}>
          Copy
        </button>
        {types && (
          <button type="button" onClick={() => void pasteFromClipboard()}>
            Paste
          </button>
        )}
        {isScaled && (
          <button type="button" class="primary" onClick={fit}>
            Fit to my window
          </button>
        )}
        {types && (
          <button
            type="button"
            aria-pressed={hasKeys.value}
            onClick={() => {
              hasKeys.value = !hasKeys.value
            }}
          >
            Keys
          </button>
        )}
        {types && (
          <button
            type="button"
            aria-pressed={isComposing.value}
            onClick={() => {
              isComposing.value = !isComposing.value
            }}
          >
            Compose
          </button>
        )}
        <details class="menu">
          <summary>More</summary>
          <div>
            <button
              type="button"
              onClick={() => save(`${process.processId}.txt`, screen.current?.text() ?? "", "text/plain;charset=utf-8")}
            >
              Download what is shown
            </button>
            <label class="check">
              <input
                type="checkbox"
                checked={reads.value}
                onChange={({ currentTarget }) => {
                  reads.value = currentTarget.checked
                  localStorage.setItem(screenReaderKey, reads.value ? "on" : "off")
                  screen.current?.setScreenReader(reads.value)
                }}
              />
              For screen readers
            </label>
            {!isGpu.value && (
              <button
                type="button"
                onClick={() => {
                  isGpu.value = true
                  void attempt(async () => screen.current?.accelerate())
                }}
              >
                Draw with the graphics processor
              </button>
            )}
            <p class="sub">Ctrl+Shift with C copies, V pastes, F finds, and X leaves the terminal.</p>
          </div>
        </details>
        {size !== undefined && size !== null && (
          <span class="sub">
            {size.cols}×{size.rows}
            {isScaled && (driver === undefined ? ", set elsewhere" : `, set by ${visible(driver.name, 40)}`)}
          </span>
        )}
        {!mayWrite && <span class="badge">view only</span>}
      </div>
      {isSearching.value && (
        <form
          class="tools find"
          aria-label="Find in the terminal"
          onSubmit={(event) => {
            event.preventDefault()
            search("previous")
          }}
          onKeyDown={({ key }) => {
            if (key !== "Escape") return
            isSearching.value = false
            screen.current?.focus()
          }}
        >
          <label class="search">
            <span class="hidden">Find in the terminal</span>
            <input
              ref={searchBox}
              type="search"
              placeholder="Find"
              value={wanted.value}
              onInput={({ currentTarget }) => {
                wanted.value = currentTarget.value
                search("first")
              }}
            />
          </label>
          <button type="submit">Up</button>
          <button type="button" onClick={() => search("next")}>
            Down
          </button>
          <span class="sub" role="status">
            {wanted.value === "" ? "" : found.value.of === 0 ? "not found" : `${found.value.at} of ${found.value.of}`}
          </span>
        </form>
      )}
      <div class={`glass ${rings.value % 2 === 0 ? "even" : "odd"} ${rings.value > 0 ? "rung" : ""}`}>
        <div class="screen" ref={element} />
      </div>
      {hasKeys.value && types && (
        <KeyRow
          held={held}
          onKey={(bytes) => {
            type(bytes)
            if (!isTouch) screen.current?.focus()
          }}
          isApplication={() => screen.current?.wantsApplicationKeys ?? false}
        />
      )}
      {isComposing.value && types && (
        <form
          class="compose"
          onSubmit={(event) => {
            event.preventDefault()
            const keys = Paste.filter(composed.value).text
            composed.value = ""
            write(utf8(screen.current?.wantsBrackets === true && keys.includes("\r") ? Paste.bracketed(keys) : keys))
            write(utf8("\r"))
          }}
        >
          <label class="grow">
            <span class="hidden">Text to send</span>
            <textarea
              class="mono"
              rows={2}
              placeholder="Write here, send at once"
              value={composed.value}
              onInput={({ currentTarget }) => {
                composed.value = currentTarget.value
              }}
            />
          </label>
          <button type="submit" class="primary">
            Send
          </button>
        </form>
      )}
    </div>
  )
}
