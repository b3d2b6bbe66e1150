/**
 * Settings that turn families of methods off: which ones are refused, and what clients are told of it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { FileLimits } from "../filesystem/FileLimits.js"
import { HttpLimits } from "../http/HttpLimits.js"
import type { EnvironmentInfo } from "../protocol/ExecApi.js"
import { NotAllowed } from "../protocol/Failure.js"
import type { Family } from "../protocol/MethodFacts.js"

/** The families that are turned off. */
export interface Switches {
  /** Why no method of this family is served; undefined if it is. */
  readonly refusal: (family: Family) => NotAllowed | undefined
  /** A description of the machine whose capabilities say what is turned off. */
  readonly describe: (info: EnvironmentInfo) => EnvironmentInfo
}

/** The switches of the current limits. */
export const make: Effect.Effect<Switches> = Effect.gen(function* () {
  const { allowFiles } = yield* FileLimits
  const { allowHttp, httpEnvAllow } = yield* HttpLimits
  const off = new Map<Family, NotAllowed>()
  if (!allowFiles) {
    const refusal = new NotAllowed({ message: "allowFiles is false: this server serves no requests on files" })
    // This method reads files as well.
    off.set("filesystem", refusal).set("environment config", refusal)
  }
  if (!allowHttp) {
    off.set("http", new NotAllowed({ message: "allowHttp is false: this server makes no HTTP requests for clients" }))
  }
  // `files` and `http` are ours: without them, both are served.
  const capabilities = {
    ...(allowFiles ? {} : { files: false, fsWatchMissing: false }),
    ...(allowHttp ? {} : { http: false }),
    ...(allowHttp && httpEnvAllow?.length !== 0 ? {} : { httpHeaderEnvVars: false })
  }
  return {
    refusal: (family) => off.get(family),
    describe: (info) => ({ ...info, capabilities: { ...info.capabilities, ...capabilities } })
  }
})
