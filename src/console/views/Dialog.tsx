/**
 * Dialogs: they have the keyboard while they are open, and Escape closes them.
 *
 * @since 0.1.0
 */
import type { ComponentChildren } from "preact"
import { useEffect, useId, useRef } from "preact/hooks"
import { question } from "../Notices.js"
import { visible } from "../VisibleText.js"

/** A dialog that is open as long as it is rendered. */
export const Dialog = (props: {
  readonly title: string
  readonly onClose: () => void
  readonly children: ComponentChildren
}) => {
  const ref = useRef<HTMLDialogElement>(null)
  const id = useId()
  useEffect(() => {
    const before = document.activeElement
    const dialog = ref.current
    dialog?.showModal()
    return () => {
      // A dialog that is taken out of the page while it is open would leave the keyboard nowhere.
      if (dialog?.open !== true || !(before instanceof HTMLElement)) return
      setTimeout(() => {
        if (document.activeElement === document.body) before.focus()
      })
    }
  }, [])
  return (
    <dialog ref={ref} aria-labelledby={id} onClose={props.onClose}>
      <h2 id={id}>{props.title}</h2>
      {props.children}
    </dialog>
  )
}

/** The question of the page, if there is one. */
export const QuestionDialog = () => {
  const asked = question.value
  if (asked === undefined) return null
  const { title, text, detail, yes, isDangerous = false, answer } = asked
  return (
    <Dialog key={title + text} title={title} onClose={() => answer(false)}>
      <p>{text}</p>
      {detail !== undefined && (
        <pre class="detail" tabIndex={0}>
          {detail.split("\n").map((line) => `${visible(line)}\n`)}
        </pre>
      )}
      <div class="actions">
        <button type="button" onClick={() => answer(false)}>
          Cancel
        </button>
        <button type="button" class={isDangerous ? "danger" : "primary"} onClick={() => answer(true)}>
          {yes}
        </button>
      </div>
    </Dialog>
  )
}
