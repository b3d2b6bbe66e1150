/**
 * The output of a process without a terminal: lines, those of stderr marked.
 *
 * @since 0.1.0
 */
import { useSignal } from "@preact/signals"
import { useEffect, useMemo, useRef } from "preact/hooks"
import { utf8 } from "../Bytes.js"
import type { Display } from "../Feed.js"
import { type Line, Lines, textOf } from "../Lines.js"
import { tell } from "../Notices.js"
import { save } from "../Page.js"
import { visible } from "../VisibleText.js"
import { type Opened, openFeed, type PaneProps } from "./Pane.js"

/** The height of a line in pixels, and how many are drawn beyond those in sight. */
const row = { height: 20, beyond: 20 }

const marks: { readonly [S in Line["stream"]]: string } = { stdout: "", pty: "", stderr: "err", gap: "gap" }

/** The pane. */
export const LogPane = (props: PaneProps) => {
  const { process, mayWrite } = props
  const version = useSignal(0)
  const follows = useSignal(true)
  const top = useSignal(0)
  const height = useSignal(600)
  const text = useSignal("")
  const which = useSignal<"all" | "stdout" | "stderr">("all")
  const typed = useSignal("")
  const lines = useMemo(() => new Lines(), [process.session, process.processId])
  const box = useRef<HTMLDivElement>(null)
  const opened = useRef<Opened | undefined>(undefined)

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const changed = () => {
      timer ??= setTimeout(() => {
        timer = undefined
        version.value++
      }, 50)
    }
    const display: Display = {
      reset: () => {
        lines.clear()
        changed()
      },
      output: (stream, bytes, _isLive, shown) => {
        lines.add(stream, bytes)
        changed()
        shown()
      },
      resize: () => {},
      gap: (bytes) => {
        lines.gap(bytes)
        changed()
      }
    }
    opened.current = openFeed(props, display)
    const observer = new ResizeObserver(([entry]) => {
      height.value = entry?.contentRect.height ?? 600
    })
    if (box.current !== null) observer.observe(box.current)
    return () => {
      clearTimeout(timer)
      observer.disconnect()
      opened.current?.close()
    }
  }, [process.session, process.processId])

  // Read here: it is what a new output changes.
  const seen = version.value
  const wanted = text.value.toLowerCase()
  const shown = useMemo(
    () =>
      lines.list.filter(
        (line) =>
          (which.value === "all" || line.stream === which.value || line.stream === "gap") &&
          (wanted === "" || line.text.toLowerCase().includes(wanted))
      ),
    [seen, wanted, which.value, lines]
  )
  const first = Math.max(0, Math.floor(top.value / row.height) - row.beyond)
  const last = Math.min(shown.length, Math.ceil((top.value + height.value) / row.height) + row.beyond)

  useEffect(() => {
    const { current } = box
    if (current !== null && follows.value) current.scrollTop = current.scrollHeight
  }, [shown, follows.value])

  const send = () => {
    opened.current?.input.write(utf8(`${typed.value}\n`))
    typed.value = ""
  }

  const download = () =>
    save(
      `${process.processId}.log`,
      lines.list.map((line) => `${textOf(line.text)}\n`).join(""),
      "text/plain;charset=utf-8"
    )

  return (
    <div class="pane">
      <div class="tools" role="toolbar" aria-label="Output">
        <label>
          <span class="hidden">Stream</span>
          <select
            value={which.value}
            onChange={({ currentTarget }) => {
              which.value = currentTarget.value as typeof which.value
            }}
          >
            <option value="all">stdout and stderr</option>
            <option value="stdout">stdout</option>
            <option value="stderr">stderr</option>
          </select>
        </label>
        <label class="search">
          <span class="hidden">Filter lines</span>
          <input
            type="search"
            placeholder="Filter lines"
            value={text.value}
            onInput={({ currentTarget }) => {
              text.value = currentTarget.value
            }}
          />
        </label>
        <label class="check">
          <input
            type="checkbox"
            checked={follows.value}
            onChange={({ currentTarget }) => {
              follows.value = currentTarget.checked
            }}
          />
          Follow
        </label>
        <button type="button" onClick={download}>
          Download
        </button>
        <span class="sub">{shown.length} lines</span>
      </div>
      <div
        ref={box}
        class="log"
        role="log"
        aria-live="off"
        aria-label="Output"
        tabIndex={0}
        onScroll={({ currentTarget }) => {
          const { scrollTop, scrollHeight, clientHeight } = currentTarget
          top.value = scrollTop
          follows.value = scrollTop + clientHeight >= scrollHeight - row.height
        }}
      >
        <div style={{ height: `${shown.length * row.height}px` }}>
          <div style={{ transform: `translateY(${first * row.height}px)` }}>
            {shown.slice(first, last).map((line) => (
              <div key={line.number} class={`line ${line.stream}`}>
                <span class="mark">{marks[line.stream]}</span>
                <bdi>{visible(textOf(line.text.replace(/\r$/, "")).replaceAll("\t", "    "), 4000)}</bdi>
              </div>
            ))}
          </div>
        </div>
      </div>
      {mayWrite && process.running && (
        <form
          class="compose"
          onSubmit={(event) => {
            event.preventDefault()
            send()
          }}
        >
          <label class="grow">
            <span class="hidden">Line for stdin</span>
            <input
              class="mono"
              placeholder="A line for stdin"
              value={typed.value}
              spellcheck={false}
              autoCapitalize="off"
              onInput={({ currentTarget }) => {
                typed.value = currentTarget.value
              }}
            />
          </label>
          <button type="submit">Send</button>
          <button
            type="button"
            onClick={() => {
              opened.current?.closeInput().then(
                () => tell("The input is closed."),
                (error) => tell(String(error), true)
              )
            }}
          >
            End of input
          </button>
        </form>
      )}
    </div>
  )
}
