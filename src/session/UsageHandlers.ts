/**
 * The handlers of requests about what processes use.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { ManagedProcess } from "../process/ManagedProcess.js"
import { Usage } from "../process/Usage.js"
import { UsageApi } from "../protocol/UsageApi.js"
import { CurrentConnection } from "./CurrentConnection.js"
import * as Reached from "./Reached.js"
import type { SessionRegistry } from "./SessionRegistry.js"
import * as UsageWatches from "./UsageWatches.js"

/** These handlers, for the layer of all handlers, and what lists tell of usage. */
export const make = (registry: Context.Tag.Service<SessionRegistry>) =>
  Effect.gen(function* () {
    const usage = new Usage()
    const watches = yield* UsageWatches.make(usage)
    const process = Reached.process(registry)
    const listed = Reached.listed(registry)

    const handlers = UsageApi.of({
      "process/usage": (params) => process("process/usage", params, (found) => usage.all(found)),

      "usage/watch": ({ intervalMs }) =>
        Effect.gen(function* () {
          const connection = yield* CurrentConnection
          yield* watches.watch(connection, intervalMs, yield* listed)
          return {}
        })
    })
    /** The members of a list of processes; null without a living process. */
    const describe = (found: ManagedProcess) => {
      const used = usage.of(found)
      return { usage: used.processes === 0 ? null : used }
    }
    return { handlers, describe }
  })
