/**
 * The notice of the moment.
 *
 * @since 0.1.0
 */
import { notice } from "../Notices.js"
import { visible } from "../VisibleText.js"

/** The place of the notice. */
export const Toast = () => (
  <div class={`toast ${notice.value?.isError ? "bad" : ""}`} role="status" hidden={notice.value === undefined}>
    {visible(notice.value?.text ?? "", 500)}
  </div>
)
