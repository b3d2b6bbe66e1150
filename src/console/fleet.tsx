/**
 * The page of a fleet, which its gateways serve.
 *
 * @since 0.1.0
 */
import { render } from "preact"
import { takeToken } from "./Browser.js"
import { refresh } from "./FleetStore.js"
import * as Nonce from "./Nonce.js"
import * as Route from "./Route.js"
import * as Theme from "./Theme.js"
import { Fleet } from "./views/Fleet.js"

Nonce.install()
Theme.follow()
takeToken()
addEventListener("hashchange", () => {
  if (Route.tokenOf(location.hash) === undefined) return
  takeToken()
  void refresh()
})
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) void refresh()
})
void refresh()

const root = document.getElementById("page")
if (root !== null) render(<Fleet />, root)
