/**
 * The environment variables by which a service manager talks to the process that it has started, and to no other one.
 *
 * @since 0.1.0
 */

const names = [
  "NOTIFY_SOCKET",
  "LISTEN_FDS",
  "LISTEN_FDNAMES",
  "LISTEN_PID",
  "LISTEN_PIDFDID",
  "WATCHDOG_USEC",
  "WATCHDOG_PID"
] as const

/** Their values, as far as the process was given any. */
export type ServiceVariables = { readonly [K in (typeof names)[number]]?: string | undefined }

let taken: ServiceVariables = {}

/**
 * Takes them out of `process.env`, so that no process started from now on gets them. Called again, it returns the same:
 * a version that replaces this one in the same process needs them too.
 */
export const take = (): ServiceVariables => {
  for (const name of names) {
    const value = process.env[name]
    if (value === undefined) continue
    taken = { ...taken, [name]: value }
    delete process.env[name]
  }
  return taken
}
