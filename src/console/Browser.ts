/**
 * What the connection needs of the browser: addresses, sockets, and what is kept while the tab lives.
 *
 * @since 0.1.0
 */
import type { Host, Memory } from "./Connection.js"
import { diagnose } from "./Probe.js"
import { tokenOf } from "./Route.js"

const kept = (key: string) => ({
  get: () => sessionStorage.getItem(`exec-server.${key}`) ?? undefined,
  set: (value: string | undefined) => {
    if (value === undefined) sessionStorage.removeItem(`exec-server.${key}`)
    else sessionStorage.setItem(`exec-server.${key}`, value)
  }
})

const token = kept("token")
const sessionId = kept("session")

const memory: Memory = {
  get token() {
    return token.get()
  },
  set token(value) {
    token.set(value)
  },
  get sessionId() {
    return sessionId.get()
  },
  set sessionId(value) {
    sessionId.set(value)
  }
}

/** The address of the server: the page lives one step below it, behind any prefix. */
const root = () => new URL("./", location.href)

/** An address of the server over HTTP. */
export const addressOf = (path: string): string => new URL(path, root()).href

/** An address of the server, with the token, as HTTP sends it. */
export const fetchWithToken = (path: string): Promise<Response> =>
  fetch(addressOf(path), {
    cache: "no-store",
    credentials: "omit",
    headers: memory.token === undefined ? {} : { authorization: `Bearer ${memory.token}` }
  })

/** Moves the token of the address to the storage of the tab: it is in no history and no referrer. */
export const takeToken = (): void => {
  const found = tokenOf(location.hash)
  if (found === undefined) return
  memory.token = found
  memory.sessionId = undefined
  history.replaceState(null, "", location.pathname + location.search)
}

/** The browser. */
export const host: Host = {
  memory,
  open: (protocols) => {
    const address = root()
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:"
    return new WebSocket(address.href, Array.from(protocols))
  },
  diagnose: (hasToken) => diagnose(async (path) => (await fetchWithToken(path)).status, hasToken),
  now: Date.now,
  random: Math.random
}
