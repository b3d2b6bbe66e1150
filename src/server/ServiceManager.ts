/**
 * The service manager that a server may run under. `ServiceManagerSocket` is what talks to a real one.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/**
 * What a service manager is told.
 *
 * @category models
 */
export interface Notifications {
  /** The server accepts clients; the text is for people. From now on the watchdog is answered. */
  readonly ready: (status: string) => Effect.Effect<void>
  /** Another version is about to replace this one, in the same process; it sends `ready`. So does this one if it stays. */
  readonly reloading: Effect.Effect<void>
  /** The server is about to end. */
  readonly stopping: Effect.Effect<void>
}

/**
 * The service manager. By default there is none.
 *
 * @category tags
 */
export class ServiceManager extends Context.Reference<ServiceManager>()("exec-server/ServiceManager", {
  defaultValue: (): Notifications => ({ ready: () => Effect.void, reloading: Effect.void, stopping: Effect.void })
}) {}
