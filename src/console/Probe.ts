/**
 * Why a WebSocket was not opened: browsers do not say, so the server is asked over HTTP.
 *
 * @since 0.1.0
 */

/** What can be wrong. */
export type Diagnosis =
  | { readonly _tag: "Unreachable"; readonly message: string }
  | { readonly _tag: "NotReady"; readonly message: string }
  | { readonly _tag: "NeedsToken"; readonly message: string }
  | { readonly _tag: "Forbidden"; readonly message: string }
  | { readonly _tag: "NoUpgrade"; readonly message: string }

/** Asks for the status of an address below that of the server; fails if nothing answers. */
export type Ask = (path: string) => Promise<number>

const proxy = "a proxy in between must pass on `Upgrade` and `Connection`, and the page's `Origin` must be allowed"

/** Finds out why; `hasToken` says whether a token was sent. */
export const diagnose = async (ask: Ask, hasToken: boolean): Promise<Diagnosis> => {
  try {
    const ready = await ask("readyz")
    if (ready === 403) {
      const message =
        "the server refuses this page: it was opened under a name or by a user that the server does not admit"
      return { _tag: "Forbidden", message }
    }
    if (ready >= 500) {
      return { _tag: "NotReady", message: `the server is not ready (readyz answers ${ready}): it starts or it ends` }
    }
    if (ready !== 200) {
      return { _tag: "NoUpgrade", message: `readyz answers ${ready}: something else answers at this address` }
    }
    const root = await ask("")
    if (root === 429) return { _tag: "NotReady", message: "the server has been sent too many wrong tokens just now" }
    if (root === 401) {
      const message = hasToken
        ? "the server does not accept this token: it is wrong, has expired or was revoked"
        : "the server asks for a token"
      return { _tag: "NeedsToken", message }
    }
    return { _tag: "NoUpgrade", message: `the server answers, but opens no WebSocket: ${proxy}` }
  } catch {
    return {
      _tag: "Unreachable",
      message: "nothing answers at this address: the server has ended, or the network is down"
    }
  }
}
