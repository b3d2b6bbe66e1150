/**
 * What a gateway tells of its fleet: read again and again while somebody looks.
 *
 * @since 0.1.0
 */
import { signal } from "@preact/signals"
import type { GatewayRow, HostRow, SessionRow, WaitingRow } from "../fleet/FleetRows.js"
import { addressOf, host } from "./Browser.js"

/** The time between two readings, in milliseconds. */
const everyMs = 2000

/** How long an answer may take, in milliseconds: the gateway asks its directory, whose time-outs are shorter. */
const patienceMs = 15_000

/** A host, and whether the gateway that answers hears it. */
export type Host = HostRow & { readonly connected: boolean }

/** Who looks. */
export interface Caller {
  readonly subject: string
  readonly role: "viewer" | "operator"
}

/** The fleet at one time. */
export interface Fleet {
  readonly caller: Caller
  readonly hosts: ReadonlyArray<Host>
  readonly sessions: ReadonlyArray<SessionRow>
  /** The sessions that were lost in the last hour, the last one first. */
  readonly lost: ReadonlyArray<SessionRow>
  readonly waiting: ReadonlyArray<WaitingRow>
  readonly gateways: ReadonlyArray<GatewayRow>
}

/** Where the page stands. The messages say why. */
export type State =
  | { readonly _tag: "Loading" }
  | { readonly _tag: "Shown" }
  | { readonly _tag: "Away"; readonly message: string }
  | { readonly _tag: "NeedsToken"; readonly message: string }

/** A request was not done. */
class Refused extends Error {
  constructor(
    readonly status: number,
    message: string
  ) {
    super(message)
  }
}

const send = async (path: string, sent?: object): Promise<unknown> => {
  const { token } = host.memory
  const response = await fetch(addressOf(`fleet/${path}`), {
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(patienceMs),
    headers: {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(sent === undefined ? {} : { "content-type": "application/json" })
    },
    ...(sent === undefined ? {} : { method: "POST", body: JSON.stringify(sent) })
  }).catch(() => {
    throw new Refused(0, "nothing answers at this address: the gateway has ended, or the network is down")
  })
  const body = (await response.json().catch(() => ({}))) as { readonly error?: unknown }
  if (response.ok) return body
  if (response.status === 401) {
    throw new Refused(
      401,
      token === undefined
        ? "the gateway asks for a token"
        : "the gateway does not accept this token: it is wrong, has expired or was revoked"
    )
  }
  if (response.status === 429) throw new Refused(429, "the gateway has been sent too many wrong tokens just now")
  throw new Refused(
    response.status,
    typeof body.error === "string" ? body.error : `the gateway answers ${response.status}`
  )
}

const read = async <K extends keyof Fleet>(name: K, path: string = name): Promise<Pick<Fleet, K>> => {
  const member = path.split("?")[0] ?? ""
  const { [member]: value } = (await send(path)) as Record<string, Fleet[K]>
  return { [name]: value } as Pick<Fleet, K>
}

const byChange = (one: SessionRow, other: SessionRow) => one.changedMs - other.changedMs

/** Where the page stands. */
export const state = signal<State>({ _tag: "Loading" })

/** The fleet as last read. */
export const fleet = signal<Fleet | undefined>(undefined)

let timer: ReturnType<typeof setTimeout> | undefined
let reading = 0

/** Reads the fleet now, and again while the page is seen. */
export const refresh = async (): Promise<void> => {
  clearTimeout(timer)
  const own = ++reading
  try {
    // One after the other: all of them are statements on the same database, and the first one says who may.
    const parts = {
      ...(await read("caller")),
      ...(await read("hosts")),
      ...(await read("sessions")),
      ...(await read("lost", "sessions?lost=true").then(({ lost }) => ({ lost: [...lost].sort(byChange) }))),
      ...(await read("waiting")),
      ...(await read("gateways"))
    }
    if (own !== reading) return
    fleet.value = parts
    state.value = { _tag: "Shown" }
  } catch (error) {
    if (own !== reading) return
    if (!(error instanceof Refused)) throw error
    const { status, message } = error
    if (status === 401 || status === 403) {
      fleet.value = undefined
      state.value = { _tag: "NeedsToken", message }
      return
    }
    state.value = { _tag: "Away", message }
  }
  timer = setTimeout(() => {
    if (!document.hidden) void refresh()
  }, everyMs)
}

/** Uses another token from now on. */
export const signIn = (token: string | undefined): void => {
  host.memory.token = token
  state.value = { _tag: "Loading" }
  void refresh()
}

/** Changes something, and shows it. Fails with a sentence. */
export const change = async (path: ReadonlyArray<string>, sent: object = {}): Promise<void> => {
  await send(path.map(encodeURIComponent).join("/"), sent)
  await refresh()
}
