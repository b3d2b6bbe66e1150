/**
 * The frame of the page: its parts, where the connection stands, and the current view.
 *
 * @since 0.1.0
 */

import * as Format from "../Format.js"
import { now } from "../Notices.js"
import { connection, grant, isOnline } from "../Page.js"
import { addressOf, type Route, route } from "../Route.js"
import { mayList } from "../Store.js"
import { visible } from "../VisibleText.js"
import { QuestionDialog } from "./Dialog.js"
import { List } from "./List.js"
import { Stopped } from "./Login.js"
import { Process } from "./Process.js"
import { Recording } from "./Recording.js"
import { Recordings } from "./Recordings.js"
import { Server } from "./Server.js"
import { StartForm } from "./StartForm.js"
import { ThemeChoice } from "./ThemeChoice.js"
import { Toast } from "./Toast.js"

/** The views that every list leads to. */
const places: ReadonlyArray<readonly [label: string, route: Route]> = [
  ["Processes", { _tag: "List" }],
  ["Recordings", { _tag: "Recordings" }],
  ["Server", { _tag: "Server" }]
]

/** How long before its end the expiry of a token is told, in milliseconds. */
const warningMs = 600_000

const isWithin = (place: Route["_tag"], current: Route["_tag"]): boolean =>
  place === current ||
  (place === "Recordings" && current === "Recording") ||
  (place === "List" && (current === "Process" || current === "Start"))

const Expiry = () => {
  const expiresAtMs = grant.value?.expiresAtMs ?? null
  if (expiresAtMs === null) return null
  const left = expiresAtMs - now.value
  return (
    <span class={left < warningMs ? "badge failed" : "sub"} title={new Date(expiresAtMs).toLocaleString()}>
      access ends in {Format.duration(left)}
    </span>
  )
}

const Role = () => {
  const of = grant.value
  if (of === undefined) return null
  const what = of.scope === null ? of.role : of.role === "viewer" ? "shared, view only" : "shared"
  return (
    <span class="badge" title={visible(of.subject, 100)}>
      {what}
    </span>
  )
}

const Header = () => {
  const current = route.value._tag
  const lists = grant.value === undefined || mayList(grant.value)
  return (
    <header class="top">
      <a class="logo" href={addressOf({ _tag: "List" })}>
        exec-server
      </a>
      {lists && (
        <nav aria-label="Views">
          {places.map(([label, to]) => (
            <a key={label} href={addressOf(to)} aria-current={isWithin(to._tag, current) ? "page" : undefined}>
              {label}
            </a>
          ))}
        </nav>
      )}
      <div class="status">
        <Expiry />
        <Role />
        <ThemeChoice />
        <span
          class={`dot ${isOnline.value ? "on" : "off"}`}
          role="img"
          aria-label={isOnline.value ? "connected" : "not connected"}
        />
      </div>
    </header>
  )
}

/** What is told while there is no connection. */
const Banner = () => {
  const state = connection.state.value
  if (state._tag === "Online" || state._tag === "Stopped") return null
  if (state._tag === "Connecting") {
    // The first attempt is told of only where a connection was lost: otherwise it is over before it is read.
    return state.attempt < 2 && grant.value === undefined ? null : (
      <p class="banner" role="status">
        Connecting…
      </p>
    )
  }
  const seconds = Math.max(0, Math.ceil((state.retryAtMs - now.value) / 1000))
  return (
    <p class="banner" role="status">
      <span>
        Not connected: {visible(state.message, 300)}. Next attempt {seconds === 0 ? "now" : `in ${seconds} s`}.
        {route.value._tag === "Process" && " What is typed is sent then."}
      </span>
      <button type="button" onClick={() => connection.connect()}>
        Connect now
      </button>
    </p>
  )
}

const View = () => {
  const of = grant.value
  const current = route.value
  if (of === undefined) return <main class="page" aria-busy="true" />
  const { scope } = of
  if (scope !== null && scope.processId !== null) return <Process session={scope.session} processId={scope.processId} />
  if (scope !== null && current._tag !== "Process") {
    return (
      <main class="page">
        <h1>One session</h1>
        <p>This token is for processes of {visible(scope.session)}. Open the address of one of them.</p>
      </main>
    )
  }
  switch (current._tag) {
    case "List":
      return <List />
    case "Start":
      return <StartForm />
    case "Recordings":
      return <Recordings />
    case "Server":
      return <Server />
    case "Process":
      return <Process session={current.session} processId={current.processId} />
    case "Recording":
      return <Recording recordingId={current.recordingId} />
  }
}

/** The page. */
export const App = () => {
  const state = connection.state.value
  return (
    <>
      <Header />
      <Banner />
      {state._tag === "Stopped" ? <Stopped stop={state.stop} /> : <View />}
      <QuestionDialog />
      <Toast />
    </>
  )
}
