/**
 * What is shown instead of the page while it may not be used: a form for a token, or why there is no connection.
 *
 * @since 0.1.0
 */
import type { Stop } from "../Connection.js"
import { connection } from "../Page.js"
import { visible } from "../VisibleText.js"
import { SignIn } from "./SignIn.js"

const titles: { readonly [T in Stop["_tag"]]: string } = {
  NeedsToken: "Sign in",
  TakenOver: "Open elsewhere",
  Ended: "Ended",
  Forbidden: "Not admitted"
}

/** The view of a connection that has stopped. */
export const Stopped = ({ stop }: { readonly stop: Stop }) => {
  if (stop._tag === "NeedsToken") {
    return (
      <SignIn
        message={stop.message}
        hint="The server prints it, or reads it from a file."
        onToken={(token) => connection.signIn(token)}
      />
    )
  }
  return (
    <main class="page narrow">
      <h1>{titles[stop._tag]}</h1>
      <p class="message" role="alert">
        {visible(stop.message)}.
      </p>
      <div class="actions">
        {stop._tag === "TakenOver" && (
          <button type="button" class="primary" onClick={() => connection.connect()}>
            Use it here
          </button>
        )}
        <button type="button" onClick={() => connection.renew()}>
          {stop._tag === "Forbidden" ? "Try again" : "New session"}
        </button>
      </div>
    </main>
  )
}
