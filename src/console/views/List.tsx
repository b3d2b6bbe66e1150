/**
 * The list of sessions and processes.
 *
 * @since 0.1.0
 */
import { useSignal } from "@preact/signals"
import * as Format from "../Format.js"
import { ask, attempt, now } from "../Notices.js"
import { connection, grant, store } from "../Page.js"
import { addressOf } from "../Route.js"
import { keyOf, mayManage, mayStart } from "../Store.js"
import { commandOf, visible } from "../VisibleText.js"
import type { ProcessInfo, SessionInfo } from "../Wire.js"
import { Sparkline } from "./Sparkline.js"
import { State } from "./State.js"

/** How many processes are listed before one has to ask for more. */
const pageSize = 200

const matches = (process: ProcessInfo, session: SessionInfo | undefined, text: string): boolean =>
  [process.processId, ...process.argv, process.title ?? "", process.cwd ?? "", session?.name ?? "", session?.session]
    .join(" ")
    .toLowerCase()
    .includes(text.toLowerCase())

const Row = ({ process }: { readonly process: ProcessInfo }) => {
  const { session = "", processId, argv, title, startedAtMs, viewers = 0, outputBytes = 0, recording } = process
  const points = store.usage.value.get(keyOf(process)) ?? []
  const last = points.at(-1)
  const usage = last === undefined ? "" : `${Format.percent(last.cpu)} · ${Format.bytes(last.rssBytes)}`
  return (
    <tr>
      <th scope="row">
        <a href={addressOf({ _tag: "Process", session, processId })}>
          <bdi>{commandOf(argv)}</bdi>
        </a>
        <span class="sub">
          <bdi>{visible(processId, 60)}</bdi>
          {title !== null && title !== undefined && title !== "" && (
            <>
              {" · "}
              <bdi>{visible(title, 80)}</bdi>
            </>
          )}
        </span>
      </th>
      <td>
        <State of={process} />
        {recording !== null && recording !== undefined && <span class="badge recording">rec</span>}
      </td>
      <td class="number" data-label="Age">
        {Format.duration(now.value - startedAtMs)}
      </td>
      <td class="usage" data-label="Usage">
        {process.running && (
          <>
            <Sparkline values={points.map(({ cpu }) => cpu)} least={10} label={`CPU ${usage}`} />
            <span class="sub">{usage}</span>
          </>
        )}
      </td>
      <td class="number" data-label="Output">
        {Format.bytes(outputBytes)}
      </td>
      <td class="number" data-label="Viewers">
        {viewers}
      </td>
    </tr>
  )
}

const endSession = async ({ session, name, running }: SessionInfo) => {
  const yes = await ask({
    title: "End this session?",
    text: `${running} running processes of ${name ?? session} are killed, and its client is disconnected.`,
    yes: "End session",
    isDangerous: true
  })
  if (yes) await attempt(() => connection.call("session/end", { session }))
}

const SessionSection = (props: { readonly session: SessionInfo; readonly processes: ReadonlyArray<ProcessInfo> }) => {
  const { session, name, clientName, subject, peer, state, expiresAtMs, own } = props.session
  const may = grant.value !== undefined && mayManage(grant.value, session)
  return (
    <section class="session" aria-label={`Session ${visible(name ?? session)}`}>
      <header>
        <h2>
          <bdi>{visible(name ?? session)}</bdi> {own && <span class="badge own">this page</span>}
          {state === "detached" && <span class="badge">detached</span>}
        </h2>
        <p class="sub">
          <bdi>{visible(clientName, 80)}</bdi> · <bdi>{visible(subject, 80)}</bdi> · <bdi>{visible(peer, 80)}</bdi>
          {state === "detached" &&
            (expiresAtMs === null
              ? " · kept until it is ended"
              : ` · ends in ${Format.duration(expiresAtMs - now.value)}`)}
        </p>
        {may && !own && (
          <button type="button" class="quiet" onClick={() => void endSession(props.session)}>
            End session
          </button>
        )}
      </header>
      {props.processes.length === 0 ? (
        <p class="empty">No processes.</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">Command</th>
              <th scope="col" class="state">
                State
              </th>
              <th scope="col" class="number">
                Age
              </th>
              <th scope="col" class="usage">
                Usage
              </th>
              <th scope="col" class="number">
                Output
              </th>
              <th scope="col" class="number">
                Viewers
              </th>
            </tr>
          </thead>
          <tbody>
            {props.processes.map((process) => (
              <Row key={keyOf(process)} process={process} />
            ))}
          </tbody>
        </table>
      )}
    </section>
  )
}

/** The view. */
export const List = () => {
  const text = useSignal("")
  const which = useSignal<"all" | "running" | "ended">("all")
  const limit = useSignal(pageSize)
  const sessions = store.sessions.value
  const byHandle = new Map(sessions.map((session) => [session.session, session]))
  const found = store.processes.value
    .filter(({ running }) => which.value === "all" || running === (which.value === "running"))
    .filter((process) => text.value === "" || matches(process, byHandle.get(process.session ?? ""), text.value))
  const shown = found.slice(-limit.value)
  const isFiltered = text.value !== "" || which.value !== "all"
  const ordered = sessions
    .map((session) => ({ session, processes: shown.filter((one) => one.session === session.session).reverse() }))
    .filter(({ session, processes }) => processes.length > 0 || (!isFiltered && session.own))
    .sort((one, other) => Number(other.session.own) - Number(one.session.own))
  const others = sessions.length - ordered.length
  return (
    <main class="page">
      <div class="bar">
        <h1>Processes</h1>
        <label class="search">
          <span class="hidden">Search processes</span>
          <input
            type="search"
            placeholder="Search"
            value={text.value}
            onInput={({ currentTarget }) => {
              text.value = currentTarget.value
            }}
          />
        </label>
        <label>
          <span class="hidden">State</span>
          <select
            value={which.value}
            onChange={({ currentTarget }) => {
              which.value = currentTarget.value as typeof which.value
            }}
          >
            <option value="all">All states</option>
            <option value="running">Running</option>
            <option value="ended">Ended</option>
          </select>
        </label>
        {grant.value !== undefined && mayStart(grant.value) && (
          <a class="button primary" href={addressOf({ _tag: "Start" })}>
            Start a command
          </a>
        )}
      </div>
      {!store.isLoaded.value && <p class="empty">Loading…</p>}
      {store.isLoaded.value && found.length === 0 && isFiltered && <p class="empty">Nothing matches.</p>}
      {ordered.map(({ session, processes }) => (
        <SessionSection key={session.session} session={session} processes={processes} />
      ))}
      {!isFiltered && others > 0 && (
        <p class="sub">
          {others} more {others === 1 ? "session has" : "sessions have"} no processes.
        </p>
      )}
      {found.length > limit.value && (
        <button
          type="button"
          onClick={() => {
            limit.value += pageSize
          }}
        >
          Show {Math.min(pageSize, found.length - limit.value)} more of {found.length}
        </button>
      )}
    </main>
  )
}
