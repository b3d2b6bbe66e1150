/**
 * `e2b`: serves the interfaces of E2B in front of this machine, or of a server.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Token from "../client/Token.js"
import * as Place from "../e2b/Place.js"
import * as Server from "../e2b/Server.js"
import * as PrivateFile from "../internal/PrivateFile.js"
import * as ListenUrl from "../transport/ListenUrl.js"
import * as Tls from "../transport/Tls.js"
import { announce } from "./Announce.js"
import { UsageError } from "./CommandExit.js"
import * as Target from "./Target.js"

/** The arguments of `e2b`. */
export interface Options {
  readonly target: Target.Target
  readonly listen: string
  readonly accessTokenFile: string | undefined
  readonly tlsCert: string | undefined
  readonly tlsKey: string | undefined
}

/** The variable with the token of clients. */
const tokenVariable = "EXEC_SERVER_E2B_TOKEN"

/** How much output of a process may be on its way to a slow client, in bytes, before the process waits. */
const outputWindow = 1_048_576

const usage = (message: string) => new UsageError({ message })

const addressOf = (listen: string, hasCertificate: boolean): Either.Either<ListenUrl.Place, UsageError> => {
  const refuse = () =>
    usage(`invalid --listen URL \`${listen}\`; expected \`http://IP:PORT\`, https:// or unix:///PATH`)
  if (!/^(https?|unix):\/\//.test(listen)) return Either.left(refuse())
  if (listen.startsWith("https:") && !hasCertificate) {
    return Either.left(usage(`--listen ${listen} needs a certificate: give --tls-cert and --tls-key`))
  }
  return ListenUrl.parse(listen.replace(/^http/, "ws"), hasCertificate).pipe(
    Either.mapLeft(refuse),
    Either.filterOrLeft((place) => place !== undefined, refuse)
  )
}

/** Serves until it is interrupted. */
export const e2b = ({ target, listen, accessTokenFile, tlsCert, tlsKey }: Options) =>
  Effect.gen(function* () {
    yield* Target.check(target)
    const tls = yield* Either.mapLeft(Tls.fromFlags(tlsCert, tlsKey), usage)
    const { address, isLocal } = yield* addressOf(listen, tls !== undefined)
    const variables = { [Token.variableName]: process.env[tokenVariable] }
    const token = yield* Token.load({ tokenFile: accessTokenFile, variables })
    if (!isLocal && token === undefined) {
      return yield* usage(
        `refusing to listen on ${listen}: anybody who can reach it could run commands; give --access-token-file`
      )
    }
    if (accessTokenFile !== undefined) yield* PrivateFile.warn("the token in", accessTokenFile)
    // Its processes end with this command, even if it is killed.
    const environment = yield* Target.connect(target, { ...Target.transient, capabilities: { outputWindow } })
    const place = yield* Place.of(environment)
    const url = yield* Server.serve({ address, tls, token, environment, place })
    yield* announce("exec-server e2b", url)
    return yield* Effect.flatMap(environment.client.ended, (error) => Effect.fail(error))
  }).pipe(Effect.scoped)
