/**
 * The choice between light and dark.
 *
 * @since 0.1.0
 */
import { choice } from "../Theme.js"

/** The control. */
export const ThemeChoice = () => (
  <label>
    <span class="hidden">Theme</span>
    <select
      class="quiet"
      value={choice.value}
      onChange={({ currentTarget }) => {
        choice.value = currentTarget.value as typeof choice.value
      }}
    >
      <option value="system">System</option>
      <option value="light">Light</option>
      <option value="dark">Dark</option>
    </select>
  </label>
)
