/**
 * The real services of a server on this machine, for `ExecServer.layer` and `ExecServer.layerSessions`.
 *
 * To replace a service, provide another one before these: the one provided first wins.
 *
 * ```ts
 * const server = ExecServer.layer.pipe(
 *   Layer.provide(Memory.layer),
 *   Layer.provide(FakeSpawner.layer),
 *   Layer.provide(NodeServices.layer)
 * )
 * ```
 *
 * The real spawner is still built, but unused: it starts no process before its first child. To avoid even that, provide
 * the services one by one: `FakeSpawner.layer`, `OutputBuffer.layer`, `MemoryFileSystem.layer()`, `HttpRunner.layer`.
 *
 * Bubblewrap enforces sandboxes; it is looked up when the first one is requested. The services must support it: the
 * spawner `confines`, and the file system `isConfinable`. If a replacement does not, requests with a restrictive
 * sandbox are refused, and all others served.
 *
 * @since 0.1.0
 */
import type * as Layer from "effect/Layer"
import { FileSystem } from "../filesystem/FileSystem.js"
import { HttpRunner } from "../http/HttpRunner.js"
import { inOrder } from "../internal/Wiring.js"
import { OutputBuffer } from "../process/OutputBuffer.js"
import { Bubblewrap, type BubblewrapUnavailable, layerSpawner, layerSpawnerContained } from "../sandbox/Bubblewrap.js"
import { Confiner } from "../sandbox/Confiner.js"
import { FileViews } from "../sandbox/FileViews.js"
import type { Services } from "./ExecServer.js"

/** The services that both kinds of spawner need. */
const others = [
  OutputBuffer.layer,
  FileSystem.layer,
  HttpRunner.layer,
  Bubblewrap.layerReal,
  Confiner.layer,
  FileViews.layer
] as const

/**
 * Real processes, files and HTTP requests, with sandboxes enforced by bubblewrap.
 *
 * @category layers
 * @example
 * const sessions = ExecServer.layerSessions.pipe(Layer.provide(NodeServices.layer))
 */
export const layer: Layer.Layer<Services> = inOrder(layerSpawner, ...others)

/**
 * The same, with each process in its own PID namespace: when the process ends, so do its descendants. Fails if
 * bubblewrap cannot make namespaces.
 *
 * @category layers
 */
export const layerContained: Layer.Layer<Services, BubblewrapUnavailable> = inOrder(layerSpawnerContained, ...others)
