/**
 * `rendezvous token`: prints the token of one environment.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as EnvironmentToken from "../remote/EnvironmentToken.js"
import * as Registration from "../remote/Registration.js"
import * as RendezvousConfig from "../remote/RendezvousConfig.js"
import { UsageError } from "./CommandExit.js"
import * as Terminal from "./Terminal.js"

/** The environment, and the file of the secret of one of the two roles. */
export interface Options {
  readonly environmentId: string
  readonly executorSecretFile: string | undefined
  readonly clientSecretFile: string | undefined
}

/** Prints the token on a line. */
export const printToken = ({ environmentId, executorSecretFile, clientSecretFile }: Options) =>
  Effect.gen(function* () {
    const fault = Registration.faultOfId(environmentId)
    if (fault !== undefined) return yield* new UsageError({ message: fault })
    const file = executorSecretFile ?? clientSecretFile
    if (file === undefined || (executorSecretFile !== undefined && clientSecretFile !== undefined)) {
      return yield* new UsageError({
        message:
          "give --executor-secret-file, for the token of the executor, or --client-secret-file, for that of clients"
      })
    }
    const role = executorSecretFile === undefined ? "client" : "executor"
    const secret = yield* RendezvousConfig.readSecret(file)
    yield* Terminal.write("stdout", `${EnvironmentToken.derive(secret, role)(environmentId)}\n`)
  })
