/**
 * The server: what it is, and what it and its processes use.
 *
 * @since 0.1.0
 */
import * as Format from "../Format.js"
import { grant, limits, machine, store } from "../Page.js"
import { visible } from "../VisibleText.js"
import { Plot } from "./Plot.js"

const Facts = (props: { readonly facts: ReadonlyArray<readonly [name: string, value: string | null | undefined]> }) => (
  <dl class="facts">
    {props.facts.map(([name, value]) => (
      <div key={name}>
        <dt>{name}</dt>
        <dd>
          <bdi>{visible(value ?? "unknown", 300)}</bdi>
        </dd>
      </div>
    ))}
  </dl>
)

const path = (uri: string | null | undefined) => (uri === null || uri === undefined ? uri : Format.path(uri))

/** A limit as people read it; its name says what it is. */
const shownLimit = (name: string, value: number | null): string =>
  value === null ? "none" : name.includes("Bytes") ? Format.bytes(value) : String(value)

/** The view. */
export const Server = () => {
  const info = machine.value
  const of = grant.value
  const points = store.server.value
  const times = points.map(({ atMs }) => atMs / 1000)
  const running = store.processes.value.filter((one) => one.running).length
  const features = Object.entries(info?.capabilities ?? {}).flatMap(([name, isOn]) => (isOn ? name : []))
  return (
    <main class="page" tabIndex={0}>
      <h1>Server</h1>
      <section class="card" aria-label="The server">
        <Facts
          facts={[
            ["Version", info?.executorVersion],
            ["System", info?.platformOs],
            ["Directory", path(info?.cwd)],
            ["Home", path(info?.userHomeDir)],
            ["Shell", info?.shell?.path],
            ["Features", features.join(", ")],
            ["You are", of === undefined ? undefined : `${of.subject}, ${of.role}`],
            ["Sessions", String(store.sessions.value.length)],
            ["Processes", `${running} running, ${store.processes.value.length} in all`],
            ...Object.entries(limits.value).map(([name, value]) => [name, shownLimit(name, value)] as const)
          ]}
        />
      </section>
      {points.length < 2 ? (
        <p class="empty">Waiting for the first samples…</p>
      ) : (
        <section class="card" aria-label="Metrics">
          <div class="plots">
            <Plot
              title="CPU, percent of one core"
              times={times}
              series={[
                { label: "server", values: points.map(({ cpu }) => cpu) },
                { label: "processes", values: points.map(({ processesCpu }) => processesCpu) }
              ]}
              format={Format.percent}
            />
            <Plot
              title="Memory"
              times={times}
              series={[
                { label: "server", values: points.map(({ rssBytes }) => rssBytes) },
                { label: "processes", values: points.map(({ processesRssBytes }) => processesRssBytes) }
              ]}
              format={Format.bytes}
            />
            <Plot
              title="Longest delay of the event loop"
              times={times}
              series={[{ label: "delay", values: points.map(({ eventLoopDelayMs }) => eventLoopDelayMs) }]}
              format={(ms) => `${Math.round(ms)} ms`}
            />
            <Plot
              title="Processes alive"
              times={times}
              series={[{ label: "alive", values: points.map(({ processes }) => processes) }]}
              format={(count) => String(Math.round(count))}
            />
          </div>
        </section>
      )}
    </main>
  )
}
