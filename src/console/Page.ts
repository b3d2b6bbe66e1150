/**
 * The parts of the page that live as long as it does.
 *
 * @since 0.1.0
 */
import { computed, signal } from "@preact/signals"
import { host } from "./Browser.js"
import { Connection } from "./Connection.js"
import { Outputs } from "./Outputs.js"
import { Store } from "./Store.js"
import type { EnvironmentInfo, GrantInfo, Result } from "./Wire.js"

/** The connection. */
export const connection = new Connection(host)

/** The output of the own processes. */
export const outputs = new Outputs(connection)

/** The lists. */
export const store = new Store(connection)

/** What the token permits, as last told. */
export const grant = signal<GrantInfo | undefined>(undefined)

/** The machine of the server, as last told. */
export const machine = signal<EnvironmentInfo | null>(null)

/** The limits of the server, by the names of its settings; null for none. */
export const limits = signal<Result<"environment/limits">["limits"]>({})

connection.state.subscribe((state) => {
  if (state._tag !== "Online") return
  grant.value = state.grant
  machine.value = state.info
})
connection.whenOnline(() => {
  // A lost connection asks again with the next one.
  connection.call("environment/limits", {}).then(
    (result) => {
      limits.value = result.limits
    },
    () => {}
  )
})

/** Whether requests are answered. */
export const isOnline = computed(() => connection.state.value._tag === "Online")

/** Gives a file to the user. */
export const save = (name: string, content: BlobPart, type: string): void => {
  const address = URL.createObjectURL(new Blob([content], { type }))
  const link = document.createElement("a")
  link.href = address
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(address), 60_000)
}
