/**
 * What a process uses, drawn over time.
 *
 * @since 0.1.0
 */
import { useSignal } from "@preact/signals"
import { useEffect } from "preact/hooks"
import * as Format from "../Format.js"
import { connection } from "../Page.js"
import type { Point } from "../Store.js"
import type { Result } from "../Wire.js"
import { Plot } from "./Plot.js"

/** How often it is read, in milliseconds. */
const everyMs = 2000

/** The panel; it is drawn once it is opened. */
export const UsagePanel = (props: {
  readonly session: string
  readonly processId: string
  readonly points: ReadonlyArray<Point>
}) => {
  const { session, processId, points } = props
  const isOpen = useSignal(false)
  const usage = useSignal<Result<"process/usage"> | undefined>(undefined)

  useEffect(() => {
    if (!isOpen.value) return
    const read = () =>
      void connection.call("process/usage", { session, processId }).then(
        (found) => {
          usage.value = found
        },
        () => {}
      )
    read()
    const timer = setInterval(read, everyMs)
    return () => clearInterval(timer)
  }, [session, processId, isOpen.value])

  const found = usage.value
  return (
    <details
      class="usage-panel"
      onToggle={({ currentTarget }) => {
        isOpen.value = currentTarget.open
      }}
    >
      <summary>Usage</summary>
      {found !== undefined && (
        <dl class="figures">
          <div>
            <dt>CPU time</dt>
            <dd>{(found.cpuMs / 1000).toFixed(2)} s</dd>
          </div>
          <div>
            <dt>Memory</dt>
            <dd>{Format.bytes(found.rssBytes)}</dd>
          </div>
          <div>
            <dt>Processes</dt>
            <dd>{found.processes}</dd>
          </div>
          <div>
            <dt>Read from storage</dt>
            <dd>{Format.bytes(found.readBytes)}</dd>
          </div>
          <div>
            <dt>Written to storage</dt>
            <dd>{Format.bytes(found.writeBytes)}</dd>
          </div>
        </dl>
      )}
      {isOpen.value && points.length > 1 && (
        <div class="plots">
          <Plot
            title="CPU, percent of one core"
            times={points.map(({ atMs }) => atMs / 1000)}
            series={[{ label: "CPU", values: points.map(({ cpu }) => cpu) }]}
            format={Format.percent}
          />
          <Plot
            title="Memory"
            times={points.map(({ atMs }) => atMs / 1000)}
            series={[{ label: "Memory", values: points.map(({ rssBytes }) => rssBytes) }]}
            format={Format.bytes}
          />
        </div>
      )}
    </details>
  )
}
