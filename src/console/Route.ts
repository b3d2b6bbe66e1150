/**
 * The views of the page, and their addresses: what follows the `#`.
 *
 * @since 0.1.0
 */
import { signal } from "@preact/signals"

/** A view. */
export type Route =
  | { readonly _tag: "List" }
  | { readonly _tag: "Start" }
  | { readonly _tag: "Recordings" }
  | { readonly _tag: "Server" }
  | { readonly _tag: "Process"; readonly session: string; readonly processId: string }
  | { readonly _tag: "Recording"; readonly recordingId: string }

/** The address of a view. */
export const addressOf = (route: Route): string => {
  switch (route._tag) {
    case "List":
      return "#/"
    case "Start":
      return "#/start"
    case "Recordings":
      return "#/recordings"
    case "Server":
      return "#/server"
    case "Process":
      return `#/s/${encodeURIComponent(route.session)}/${encodeURIComponent(route.processId)}`
    case "Recording":
      return `#/recordings/${encodeURIComponent(route.recordingId)}`
  }
}

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** The token in an address, of a login or a share; undefined if there is none. */
export const tokenOf = (hash: string): string | undefined => {
  const token = /^#(?:token|share)=(.+)$/.exec(hash)?.[1]
  return token === undefined ? undefined : decoded(token)
}

/** The view at an address; the list if there is none. */
export const parse = (hash: string): Route => {
  const [first, second, third] = hash.replace(/^#\/?/, "").split("/").map(decoded)
  if (first === "start") return { _tag: "Start" }
  if (first === "server") return { _tag: "Server" }
  if (first === "recordings") {
    return second === undefined || second === "" ? { _tag: "Recordings" } : { _tag: "Recording", recordingId: second }
  }
  if (first === "s" && second !== undefined && third !== undefined) {
    return { _tag: "Process", session: second, processId: third }
  }
  return { _tag: "List" }
}

/** The current view. */
export const route = signal<Route>({ _tag: "List" })

/** Follows the address from now on. */
export const follow = (): void => {
  const read = () => {
    route.value = parse(location.hash)
  }
  addEventListener("hashchange", read)
  read()
}

/** Goes to a view. */
export const go = (to: Route): void => {
  location.hash = addressOf(to)
}
