/**
 * The page.
 *
 * @since 0.1.0
 */
import { render } from "preact"
import { takeToken } from "./Browser.js"
import * as Nonce from "./Nonce.js"
import { connection } from "./Page.js"
import * as Route from "./Route.js"
import * as Theme from "./Theme.js"
import { App } from "./views/App.js"

/** How long an answer may take right after the network has changed, in milliseconds. */
const soonMs = 3000

Nonce.install()
Theme.follow()
takeToken()
Route.follow()
addEventListener("hashchange", () => {
  if (Route.tokenOf(location.hash) === undefined) return
  takeToken()
  connection.renew()
})
addEventListener("online", () => connection.check(soonMs))
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) connection.check(soonMs)
})
connection.connect()

const root = document.getElementById("page")
if (root !== null) render(<App />, root)
