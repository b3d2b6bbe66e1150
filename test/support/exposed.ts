/** In-process WebSocket servers with fake children, and every kind of access control. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import type * as Scope from "effect/Scope"
import * as ExecServer from "../../src/server/ExecServer.js"
import * as AuditLog from "../../src/session/AuditLog.js"
import { SessionLimits } from "../../src/session/SessionLimits.js"
import { FakeSpawner } from "../../src/testing/FakeSpawner.js"
import type { SecretError } from "../../src/transport/Authenticator.js"
import type * as Listener from "../../src/transport/Listener.js"
import { type ListenError, Transport } from "../../src/transport/Transport.js"
import { TransportLimits } from "../../src/transport/TransportLimits.js"
import * as WebSocket from "../../src/transport/WebSocket.js"
import { registryLayer } from "./sessions.js"

export interface ExposedOptions {
  readonly address?: Listener.Address
  readonly options?: WebSocket.Options
  readonly auth?: Layer.Layer<never, SecretError>
  readonly transport?: Partial<Effect.Effect.Success<typeof TransportLimits>>
  readonly session?: Partial<Effect.Effect.Success<typeof SessionLimits>>
  readonly audit?: AuditLog.Shape
  /** Gets the log lines. Without it they are not written: refusals are expected. */
  readonly log?: (level: string, message: string) => void
}

/** Serves until the scope closes; returns the address and the fake spawner. */
export const exposedWithFake = ({
  address = { host: "127.0.0.1", port: 0 },
  options = {},
  auth = Layer.empty,
  transport = {},
  session = {},
  audit,
  log
}: ExposedOptions = {}): Effect.Effect<
  { readonly url: string; readonly fake: FakeSpawner["Type"] },
  ListenError | SecretError,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const references = Layer.mergeAll(
      Layer.succeed(TransportLimits, { ...(yield* TransportLimits), ...transport }),
      Layer.succeed(SessionLimits, { ...(yield* SessionLimits), ...session }),
      Layer.succeed(AuditLog.AuditLog, audit ?? (yield* AuditLog.AuditLog))
    )
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => log?.(logLevel.label, String(message)))
    const server = ExecServer.layerServe.pipe(
      Layer.provideMerge(Layer.merge(registryLayer(), WebSocket.layer(address, options).pipe(Layer.provide(auth)))),
      Layer.provide(references)
    )
    const built = yield* Layer.build(server).pipe(
      Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
      Logger.withMinimumLogLevel(LogLevel.Debug)
    )
    return { url: Context.get(built, Transport).address, fake: Context.get(built, FakeSpawner) }
  })

/** Serves until the scope closes; returns the address. */
export const exposed = (options: ExposedOptions = {}) => Effect.map(exposedWithFake(options), ({ url }) => url)

/** A temporary folder. It ends with the scope. */
export const folder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "exec-server-test-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)
