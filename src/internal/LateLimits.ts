/**
 * Detects limits that have no effect because a service was built before they were provided.
 *
 * Limits are references with defaults, so the compiler accepts them anywhere. `Limits.layer` records the services that
 * already exist when it is built. Code that later gets such a service together with these limits refuses it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** The names of ineffective limits, by the service that was built without them. */
export class LateLimits extends Context.Reference<LateLimits>()("exec-server/LateLimits", {
  defaultValue: (): ReadonlyMap<object, ReadonlyArray<string>> => new Map()
}) {}

/** Dies if a service was built before the limits in force here. `what` names it in the message. */
export const refuse = (what: string, service: object): Effect.Effect<void> =>
  Effect.flatMap(LateLimits, (late) => {
    const names = late.get(service)
    if (names === undefined) return Effect.void
    const message = `Limits.layer({ ${names.join(", ")} }) has no effect on the ${what}, built before it: `
    return Effect.die(new Error(`${message}provide Limits.layer last, after the transport and the services`))
  })
