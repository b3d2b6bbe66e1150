/**
 * The list of recordings.
 *
 * @since 0.1.0
 */
import { useSignal } from "@preact/signals"
import { useEffect } from "preact/hooks"
import { fetchWithToken } from "../Browser.js"
import { textOf } from "../Channel.js"
import * as Format from "../Format.js"
import { ask, attempt, now } from "../Notices.js"
import { connection, grant, save } from "../Page.js"
import { addressOf } from "../Route.js"
import { mayManage } from "../Store.js"
import { commandOf, visible } from "../VisibleText.js"
import type { RecordingInfo } from "../Wire.js"

/** How often the list is read, in milliseconds. */
const everyMs = 5000

/** Gives the file of a recording to the user. */
export const download = (recordingId: string): Promise<boolean> =>
  attempt(async () => {
    const response = await fetchWithToken(`console/recordings/${recordingId}.cast`)
    if (!response.ok) throw new Error(`the server answers ${response.status}: the recording may have been removed`)
    save(`${recordingId}.cast`, await response.blob(), "application/x-asciicast")
  })

const stateOf = ({ running, truncated, failure }: RecordingInfo): string => {
  if (running) return "recording"
  if (failure !== null) return `ended: ${visible(failure, 100)}`
  return truncated ? "ended at a limit" : "complete"
}

/** The view. */
export const Recordings = () => {
  const list = useSignal<ReadonlyArray<RecordingInfo> | undefined>(undefined)
  const message = useSignal("")

  const read = () =>
    connection.call("recording/list", { session: "*" }).then(
      ({ recordings }) => {
        list.value = Array.from(recordings).reverse()
        message.value = ""
      },
      (error) => {
        message.value = textOf(error)
      }
    )
  useEffect(() => {
    const stop = connection.whenOnline(() => void read())
    const timer = setInterval(() => {
      if (connection.isOnline) void read()
    }, everyMs)
    return () => {
      stop()
      clearInterval(timer)
    }
  }, [])

  const remove = async ({ recordingId, argv }: RecordingInfo) => {
    const yes = await ask({
      title: "Remove this recording?",
      text: "Its file is deleted for good.",
      detail: commandOf(argv),
      yes: "Remove",
      isDangerous: true
    })
    if (yes && (await attempt(() => connection.call("recording/remove", { recordingId })))) await read()
  }

  const of = grant.value
  return (
    <main class="page">
      <h1>Recordings</h1>
      {message.value !== "" && <p class="error">{visible(message.value, 300)}</p>}
      {list.value === undefined && message.value === "" && <p class="empty">Loading…</p>}
      {list.value?.length === 0 && (
        <p class="empty">There are none. Record a process on its page, or from the start in the form.</p>
      )}
      {list.value !== undefined && list.value.length > 0 && (
        <section class="session" aria-label="Recordings">
          <table>
            <thead>
              <tr>
                <th scope="col">Command</th>
                <th scope="col" class="state">
                  Began
                </th>
                <th scope="col" class="number">
                  Duration
                </th>
                <th scope="col" class="number">
                  Size
                </th>
                <th scope="col" class="state">
                  State
                </th>
                <th scope="col" class="row-actions">
                  <span class="hidden">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.value.map((one) => (
                <tr key={one.recordingId}>
                  <th scope="row">
                    <a href={addressOf({ _tag: "Recording", recordingId: one.recordingId })}>
                      <bdi>{commandOf(one.argv)}</bdi>
                    </a>
                    <span class="sub">
                      <bdi>
                        {visible(one.session, 40)}/{visible(one.processId, 60)}
                      </bdi>
                    </span>
                  </th>
                  <td>{Format.time(one.startedAtMs, now.value)}</td>
                  <td class="number" data-label="Duration">
                    {Format.clock(one.durationMs)}
                  </td>
                  <td class="number" data-label="Size">
                    {Format.bytes(one.bytes)}
                  </td>
                  <td>
                    <span class={`badge ${one.running ? "recording" : one.failure === null ? "" : "failed"}`}>
                      {stateOf(one)}
                    </span>
                  </td>
                  <td class="row-actions">
                    <button type="button" onClick={() => void download(one.recordingId)}>
                      Download
                    </button>
                    {of !== undefined && mayManage(of, one.session) && (
                      <button type="button" class="danger" onClick={() => void remove(one)}>
                        Remove
                      </button>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </main>
  )
}
