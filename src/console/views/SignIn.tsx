/**
 * A form for a token.
 *
 * @since 0.1.0
 */
import { visible } from "../VisibleText.js"

/** The form, why it is shown, and where a token comes from. */
export const SignIn = (props: {
  readonly message: string
  readonly hint: string
  readonly onToken: (token: string | undefined) => void
}) => (
  <main class="page narrow">
    <h1>Sign in</h1>
    <form
      onSubmit={(event) => {
        event.preventDefault()
        const token = String(new FormData(event.currentTarget).get("token") ?? "").trim()
        props.onToken(token || undefined)
      }}
    >
      <p class="error message" role="alert">
        {visible(props.message)}.
      </p>
      <label class="field">
        <span>Token</span>
        <input class="mono" type="password" name="token" required autoFocus autoComplete="off" />
        <small>{props.hint}</small>
      </label>
      <div class="actions">
        <button type="submit" class="primary">
          Sign in
        </button>
      </div>
    </form>
  </main>
)
