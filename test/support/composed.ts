/** Composes servers from real services, with some of them replaced. */
import * as Layer from "effect/Layer"
import * as ExecClient from "../../src/client/ExecClient.js"
import * as ExecServer from "../../src/server/ExecServer.js"
import * as Limits from "../../src/server/Limits.js"
import * as NodeServices from "../../src/server/NodeServices.js"
import * as Memory from "../../src/transport/Memory.js"
import type { Transport } from "../../src/transport/Transport.js"

/** Sessions of real children and files. */
export const realSessions: Layer.Layer<ExecServer.Sessions> = ExecServer.layerSessions.pipe(
  Layer.provide(NodeServices.layer)
)

/** An in-process server on any transport. `replaced` services win over the real ones. It ends without grace. */
export const serverOn = <T, E>(
  transport: Layer.Layer<T | Transport, E>,
  replaced: Layer.Layer<never>,
  limits: Limits.Options = {}
) =>
  ExecServer.layer.pipe(
    Layer.provideMerge(transport),
    Layer.provide(replaced),
    Layer.provide(NodeServices.layer),
    Layer.provide(Limits.layer({ shutdownGracePeriod: 0, ...limits }))
  )

/** The same on the memory transport. */
export const memoryServer = (replaced: Layer.Layer<never>, limits: Limits.Options = {}) =>
  serverOn<Memory.Connector, never>(Memory.layer, replaced, limits)

/** An in-process client. */
export const clientOf = (replaced: Layer.Layer<never>) =>
  ExecClient.layerInProcess().pipe(
    Layer.provide(ExecServer.layerSessions),
    Layer.provide(replaced),
    Layer.provide(NodeServices.layer)
  )
