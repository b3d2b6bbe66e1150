/**
 * The player of a recording.
 *
 * @since 0.1.0
 */
import { effect, useSignal } from "@preact/signals"
import { useEffect, useRef } from "preact/hooks"
import { fromBase64, utf8 } from "../Bytes.js"
import { type Cast, Reader } from "../Cast.js"
import { textOf } from "../Channel.js"
import * as Format from "../Format.js"
import { now } from "../Notices.js"
import { connection } from "../Page.js"
import { Playback } from "../Playback.js"
import { addressOf } from "../Route.js"
import { isDark } from "../Theme.js"
import { visible } from "../VisibleText.js"
import { download } from "./Recordings.js"
import { follow } from "./TerminalPane.js"

/** How much of the file is read at a time, in bytes. */
const readBytes = 1_048_576

const speeds = [0.5, 1, 2, 4, 8]

/** How far the arrow keys go on the bar of the time, in seconds. */
const step = 1

const load = async (recordingId: string, isOver: () => boolean): Promise<Cast> => {
  const reader = new Reader()
  const decoder = new TextDecoder()
  for (let offset = 0; !isOver(); ) {
    const { chunk } = await connection.call("recording/read", { recordingId, offset, maxBytes: readBytes })
    const bytes = fromBase64(chunk)
    if (bytes.length === 0) break
    reader.push(decoder.decode(bytes, { stream: true }))
    offset += bytes.length
  }
  return reader.end()
}

/** The view. */
export const Recording = ({ recordingId }: { readonly recordingId: string }) => {
  const element = useRef<HTMLDivElement>(null)
  const playback = useRef<Playback | undefined>(undefined)
  const cast = useSignal<Cast | undefined>(undefined)
  const message = useSignal("")
  const position = useSignal(0)
  const isPlaying = useSignal(false)
  const speed = useSignal(1)

  useEffect(() => {
    let isOver = false
    const stops: Array<() => void> = []
    const begin = async (box: HTMLDivElement) => {
      const [{ Screen }, found] = await Promise.all([import("../Screen.js"), load(recordingId, () => isOver)])
      if (isOver) return
      const nothing = () => {}
      const screen = new Screen(
        box,
        {
          onInput: nothing,
          onTitle: nothing,
          onBell: nothing,
          onCopy: nothing,
          onPaste: nothing,
          onLink: (address) => void follow(address),
          onShortcut: (shortcut) => {
            if (shortcut === "copy") void navigator.clipboard.writeText(screen.selection)
          },
          answers: () => false
        },
        { isDark: isDark.value, readOnly: true, screenReader: false }
      )
      stops.push(() => screen.dispose())
      const snapshot = await screen.serializer()
      if (isOver) return
      const scale = () => screen.mark(() => screen.scale())
      const stage = {
        reset: (size: Cast["size"], text: string) => {
          screen.reset(size, utf8(text))
          scale()
        },
        output: (text: string) => screen.output("pty", utf8(text), false, nothing),
        resize: (size: Cast["size"]) => {
          screen.resize(size)
          scale()
        },
        mark: (listener: () => void) => screen.mark(listener),
        snapshot
      }
      const player = new Playback(found, stage, () => performance.now())
      playback.current = player
      cast.value = found
      const observer = new ResizeObserver(scale)
      observer.observe(box)
      const timer = setInterval(() => {
        void player.run()
        position.value = player.clock.position(performance.now())
        isPlaying.value = player.clock.isPlaying(performance.now())
      }, 33)
      stops.push(
        () => observer.disconnect(),
        () => clearInterval(timer),
        effect(() => screen.setDark(isDark.value))
      )
      player.clock.play(performance.now())
    }
    if (element.current !== null) {
      begin(element.current).catch((error) => {
        message.value = textOf(error)
      })
    }
    return () => {
      isOver = true
      for (const stop of stops) stop()
    }
  }, [recordingId])

  const toggle = () => {
    const clock = playback.current?.clock
    if (isPlaying.value) return clock?.pause(performance.now())
    const atEnd = position.value >= (cast.value?.durationMs ?? 0)
    if (atEnd) void playback.current?.seek(0)
    clock?.play(performance.now())
  }

  const found = cast.value
  const exit = found?.events.findLast(({ code }) => code === "x")?.data
  const name = found === undefined || found.title === "" ? recordingId : found.title
  return (
    <main class="process">
      <div class="head">
        <div class="what">
          <h1>
            <bdi>{visible(name, 200)}</bdi>
          </h1>
          <p class="sub">
            <a href={addressOf({ _tag: "Recordings" })}>All recordings</a>
            {found?.startedAtMs !== undefined && <span>{Format.time(found.startedAtMs, now.value)}</span>}
            {exit !== undefined && <span>exited with status {visible(exit, 20)}</span>}
          </p>
        </div>
        <div class="controls">
          <button type="button" onClick={() => void download(recordingId)}>
            Download
          </button>
        </div>
      </div>
      {message.value !== "" && (
        <p class="banner" role="alert">
          {visible(message.value, 300)}
        </p>
      )}
      <div class="pane">
        <div class="glass">
          <div class="screen" ref={element} />
        </div>
        <div class="player" role="toolbar" aria-label="Player">
          <button type="button" class="primary" disabled={found === undefined} onClick={toggle}>
            {isPlaying.value ? "Pause" : "Play"}
          </button>
          <input
            type="range"
            aria-label="Position"
            aria-valuetext={`${Format.clock(position.value)} of ${Format.clock(found?.durationMs ?? 0)}`}
            min={0}
            max={Math.max(0.001, (found?.durationMs ?? 0) / 1000)}
            step="any"
            value={position.value / 1000}
            onInput={({ currentTarget }) => void playback.current?.seek(Number(currentTarget.value) * 1000)}
            onKeyDown={(event) => {
              const direction = event.key === "ArrowRight" ? step : event.key === "ArrowLeft" ? -step : 0
              if (direction === 0) return
              event.preventDefault()
              void playback.current?.seek(position.value + direction * 1000)
            }}
          />
          <span class="clock">
            {Format.clock(position.value)} / {Format.clock(found?.durationMs ?? 0)}
          </span>
          <label>
            <span class="hidden">Speed</span>
            <select
              value={String(speed.value)}
              onChange={({ currentTarget }) => {
                speed.value = Number(currentTarget.value)
                playback.current?.clock.setSpeed(speed.value, performance.now())
              }}
            >
              {speeds.map((one) => (
                <option key={one} value={String(one)}>
                  {one}×
                </option>
              ))}
            </select>
          </label>
        </div>
      </div>
    </main>
  )
}
