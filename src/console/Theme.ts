/**
 * Light or dark: as the system has it, or as somebody chose.
 *
 * @since 0.1.0
 */
import { computed, effect, signal } from "@preact/signals"

/** What can be chosen. */
export type Choice = "system" | "light" | "dark"

const key = "exec-server.theme"
const query = matchMedia("(prefers-color-scheme: dark)")
const systemIsDark = signal(query.matches)
query.addEventListener("change", ({ matches }) => {
  systemIsDark.value = matches
})

const stored = localStorage.getItem(key)

/** What was chosen. */
export const choice = signal<Choice>(stored === "light" || stored === "dark" ? stored : "system")

/** Whether the page is dark. */
export const isDark = computed(() => (choice.value === "system" ? systemIsDark.value : choice.value === "dark"))

/** Keeps the page and the storage up to date from now on. */
export const follow = (): void => {
  effect(() => {
    document.documentElement.dataset["theme"] = isDark.value ? "dark" : "light"
    localStorage.setItem(key, choice.value)
  })
}
