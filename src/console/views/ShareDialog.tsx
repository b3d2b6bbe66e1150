/**
 * Links to one process for somebody else, and what links there are.
 *
 * @since 0.1.0
 */
import { useSignal } from "@preact/signals"
import { useEffect } from "preact/hooks"
import { addressOf } from "../Browser.js"
import { textOf } from "../Channel.js"
import * as Format from "../Format.js"
import { attempt, now, tell } from "../Notices.js"
import { connection } from "../Page.js"
import { visible } from "../VisibleText.js"
import type { ShareInfo } from "../Wire.js"
import { Dialog } from "./Dialog.js"

const hour = 3_600_000

/** The dialog. */
export const ShareDialog = (props: {
  readonly session: string
  readonly processId: string
  readonly onClose: () => void
}) => {
  const { session, processId, onClose } = props
  const link = useSignal("")
  const message = useSignal("")
  const shares = useSignal<ReadonlyArray<ShareInfo>>([])

  const read = async () => {
    const found = await connection.call("share/list", {})
    shares.value = found.shares.filter((one) => one.session === session && one.processId === processId)
  }
  useEffect(() => {
    read().catch((error) => {
      message.value = textOf(error)
    })
  }, [])

  const create = async (form: FormData) => {
    message.value = ""
    const role = form.get("role") === "operator" ? ("operator" as const) : ("viewer" as const)
    const label = String(form.get("label") ?? "").trim()
    const expiresInMs = Number(form.get("hours")) * hour
    try {
      const made = await connection.call("share/create", {
        session,
        processId,
        role,
        expiresInMs,
        ...(label === "" ? {} : { label })
      })
      link.value = addressOf(made.path.replace(/^\//, ""))
      await read()
    } catch (error) {
      message.value = textOf(error)
    }
  }

  return (
    <Dialog title="Share this process" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void create(new FormData(event.currentTarget))
        }}
      >
        <p>Whoever has the link reaches this process, and nothing else.</p>
        <label class="field">
          <span>They may</span>
          <select name="role">
            <option value="viewer">watch</option>
            <option value="operator">watch, type, and end it</option>
          </select>
        </label>
        <label class="field">
          <span>For</span>
          <select name="hours">
            <option value="1">an hour</option>
            <option value="8">8 hours</option>
            <option value="24">a day</option>
            <option value="168">a week</option>
          </select>
        </label>
        <label class="field">
          <span>Label</span>
          <input name="label" maxLength={100} placeholder="For whom" />
        </label>
        <p class="error" role="alert">
          {message.value}
        </p>
        <button type="submit" class="primary">
          Make a link
        </button>
      </form>
      {link.value !== "" && (
        <div class="made">
          <label class="field">
            <span>The link, which is not shown again</span>
            <input class="mono" readOnly value={link.value} onFocus={({ currentTarget }) => currentTarget.select()} />
          </label>
          <button
            type="button"
            onClick={() =>
              void attempt(() => navigator.clipboard.writeText(link.value)).then((done) => {
                if (done) tell("Copied.")
              })
            }
          >
            Copy the link
          </button>
        </div>
      )}
      {shares.value.length > 0 && (
        <ul class="shares">
          {shares.value.map(({ shareId, role, label, expiresAtMs, viewers }) => (
            <li key={shareId}>
              <span>
                <bdi>{visible(label ?? shareId, 100)}</bdi>{" "}
                <span class="sub">
                  {role}, {viewers} using it, ends in {Format.duration(expiresAtMs - now.value)}
                </span>
              </span>
              <button
                type="button"
                onClick={() =>
                  void attempt(async () => {
                    await connection.call("share/revoke", { shareId })
                    await read()
                  })
                }
              >
                Revoke
              </button>
            </li>
          ))}
        </ul>
      )}
      <div class="actions">
        <button type="button" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  )
}
