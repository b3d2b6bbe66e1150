/**
 * A fleet: its hosts and their load, sessions, who waits, gateways, and what was lost.
 *
 * @since 0.1.0
 */
import type { ComponentChildren } from "preact"
import { change, fleet, type Host, refresh, signIn, state } from "../FleetStore.js"
import * as Format from "../Format.js"
import { ask, attempt } from "../Notices.js"
import { visible } from "../VisibleText.js"
import { QuestionDialog } from "./Dialog.js"
import { SignIn } from "./SignIn.js"
import { ThemeChoice } from "./ThemeChoice.js"
import { Toast } from "./Toast.js"

/** How many rows of a list are shown. */
const most = 500

/** The characters of a session's key that are shown, as in `exec-server fleet sessions`. */
const keyLength = 13

type Column = readonly [label: string, kind?: "number" | "state" | "row-actions"]

/** A list with its title, or what is said if it is empty. */
const Listing = <A,>(props: {
  readonly title: string
  readonly empty: string
  readonly columns: ReadonlyArray<Column>
  readonly rows: ReadonlyArray<A>
  readonly row: (row: A) => ComponentChildren
}) => (
  <section class="session" aria-label={props.title}>
    <header>
      <h2>{props.title}</h2>
      <p class="sub">{props.rows.length}</p>
    </header>
    {props.rows.length === 0 ? (
      <p class="empty">{props.empty}</p>
    ) : (
      <table>
        <thead>
          <tr>
            {props.columns.map(([label, kind]) => (
              <th key={label} scope="col" class={kind}>
                {kind === "row-actions" ? <span class="hidden">{label}</span> : label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{props.rows.slice(0, most).map(props.row)}</tbody>
      </table>
    )}
    {props.rows.length > most && (
      <p class="empty">{props.rows.length - most} more: `exec-server fleet` lists all of them.</p>
    )}
  </section>
)

const Text = ({ children, limit = 80 }: { readonly children: string; readonly limit?: number }) => (
  <bdi>{visible(children, limit)}</bdi>
)

const Labels = ({ of }: { readonly of: ReadonlyArray<string> }) =>
  of.length === 0 ? null : <Text>{of.join(", ")}</Text>

const isLost = ({ incarnation }: Host) => incarnation === null

const drain = async ({ id, used }: Host) => {
  const yes = await ask({
    title: "Drain this host?",
    text: `Nothing more is placed on ${visible(id, 80)}. It shuts down when its ${used} sessions have ended.`,
    yes: "Drain",
    isDangerous: true
  })
  if (yes) await attempt(() => change(["hosts", id, "drain"]))
}

const HostActions = ({ of }: { readonly of: Host }) => {
  const { id, state } = of
  const act = (action: string) => () => void attempt(() => change(["hosts", id, action]))
  const name = visible(id, 80)
  if (isLost(of)) {
    return (
      <button type="button" aria-label={`Forget ${name}`} onClick={act("forget")}>
        Forget
      </button>
    )
  }
  return (
    <>
      {state === "ready" ? (
        <button type="button" aria-label={`Cordon ${name}`} onClick={act("cordon")}>
          Cordon
        </button>
      ) : (
        <button type="button" aria-label={`Ready ${name}`} onClick={act("ready")}>
          Ready
        </button>
      )}
      {state !== "draining" && (
        <button type="button" aria-label={`Drain ${name}`} onClick={() => void drain(of)}>
          Drain
        </button>
      )}
    </>
  )
}

const Hosts = (props: { readonly hosts: ReadonlyArray<Host>; readonly mayChange: boolean }) => (
  <Listing
    title="Hosts"
    empty="No host has connected to this fleet yet."
    columns={[["Host"], ["State", "state"], ["Sessions"], ["Lease", "number"], ["Actions", "row-actions"]]}
    rows={props.hosts}
    row={(host) => (
      <tr key={host.id}>
        <th scope="row">
          <Text>{host.id}</Text>
          <span class="sub">
            <Labels of={host.labels} />
          </span>
        </th>
        <td>
          <span class={`badge ${isLost(host) ? "failed" : host.state === "ready" ? "running" : ""}`}>
            {isLost(host) ? "lost" : host.state}
          </span>
        </td>
        <td data-label="Sessions">
          <meter
            aria-label={`Load of ${visible(host.id, 80)}`}
            min={0}
            max={Math.max(1, host.capacity)}
            value={host.used}
          />{" "}
          <span class="sub">
            {host.used} of {host.capacity}
          </span>
        </td>
        <td class="number" data-label="Lease">
          {isLost(host) ? "" : Format.duration(host.leaseMs)}
        </td>
        <td class="row-actions">{props.mayChange && <HostActions of={host} />}</td>
      </tr>
    )}
  />
)

const end = async (key: string, host: string) => {
  const yes = await ask({
    title: "End this session?",
    text: `Its processes on ${visible(host, 80)} are killed, and its client is disconnected.`,
    yes: "End session",
    isDangerous: true
  })
  if (yes) await attempt(() => change(["sessions", key, "end"]))
}

const View = () => {
  const of = fleet.value
  if (of === undefined) return <main class="page" aria-busy="true" />
  const mayChange = of.caller.role === "operator"
  return (
    <main class="page" tabIndex={0}>
      <h1>Fleet</h1>
      <Hosts hosts={of.hosts} mayChange={mayChange} />
      <Listing
        title="Waiting clients"
        empty="Nobody waits for a place."
        columns={[["Subject"], ["Labels"], ["Ticket", "number"]]}
        rows={of.waiting}
        row={({ ticket, subject, labels }) => (
          <tr key={ticket}>
            <th scope="row">
              <Text>{subject}</Text>
            </th>
            <td>
              <Labels of={labels} />
            </td>
            <td class="number" data-label="Ticket">
              {ticket}
            </td>
          </tr>
        )}
      />
      <Listing
        title="Lost in the last hour"
        empty="No session was lost."
        columns={[["Session"], ["Host"], ["Reason"], ["Before", "number"]]}
        rows={of.lost}
        row={({ key, host, subject, reason, changedMs }) => (
          <tr key={key}>
            <th scope="row">
              <Text>{key.slice(0, keyLength)}</Text>
              <span class="sub">
                <Text>{subject}</Text>
              </span>
            </th>
            <td>
              <Text>{host}</Text>
            </td>
            <td>
              <Text limit={200}>{reason ?? "unknown"}</Text>
            </td>
            <td class="number" data-label="Before">
              {Format.duration(changedMs)}
            </td>
          </tr>
        )}
      />
      <Listing
        title="Sessions"
        empty="There are no sessions."
        columns={[["Session"], ["Host"], ["State", "state"], ["Age", "number"], ["Actions", "row-actions"]]}
        rows={of.sessions}
        row={({ key, host, subject, state, ageMs }) => (
          <tr key={key}>
            <th scope="row">
              <Text>{key.slice(0, keyLength)}</Text>
              <span class="sub">
                <Text>{subject}</Text>
              </span>
            </th>
            <td>
              <Text>{host}</Text>
            </td>
            <td>
              <span class={`badge ${state === "attached" ? "running" : ""}`}>{state}</span>
            </td>
            <td class="number" data-label="Age">
              {Format.duration(ageMs)}
            </td>
            <td class="row-actions">
              {mayChange && (
                <button
                  type="button"
                  aria-label={`End session ${key.slice(0, keyLength)}`}
                  onClick={() => void end(key, host)}
                >
                  End
                </button>
              )}
            </td>
          </tr>
        )}
      />
      <Listing
        title="Gateways"
        empty="No gateway has a lease."
        columns={[["Gateway"], ["Address"], ["Version"], ["Lease", "number"]]}
        rows={of.gateways}
        row={({ id, url, version, leaseMs }) => (
          <tr key={id}>
            <th scope="row">
              <Text>{id}</Text>
            </th>
            <td>{url !== null && <Text limit={200}>{url}</Text>}</td>
            <td>
              <Text>{version}</Text>
            </td>
            <td class="number" data-label="Lease">
              {Format.duration(leaseMs)}
            </td>
          </tr>
        )}
      />
    </main>
  )
}

/** The page. */
export const Fleet = () => {
  const current = state.value
  const caller = fleet.value?.caller
  return (
    <>
      <header class="top">
        <span class="logo">exec-server</span>
        <div class="status">
          {caller !== undefined && (
            <span class="badge" title={visible(caller.subject, 100)}>
              {caller.role}
            </span>
          )}
          <ThemeChoice />
          <span
            class={`dot ${current._tag === "Shown" ? "on" : "off"}`}
            role="img"
            aria-label={current._tag === "Shown" ? "connected" : "not connected"}
          />
        </div>
      </header>
      {current._tag === "Away" && (
        <p class="banner" role="status">
          <span>Not connected: {visible(current.message, 300)}. What is shown is old.</span>
          <button type="button" onClick={() => void refresh()}>
            Try now
          </button>
        </p>
      )}
      {current._tag === "NeedsToken" ? (
        <SignIn
          message={current.message}
          hint="That of an operator or a viewer, from a token file of the gateway."
          onToken={signIn}
        />
      ) : (
        <View />
      )}
      <QuestionDialog />
      <Toast />
    </>
  )
}
