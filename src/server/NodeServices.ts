/**
 * The real services of a server: what `ExecServer.layer` and `ExecServer.layerSessions` need, on this machine.
 *
 * A service is replaced by providing another one before these: what is provided first is nearest, and wins.
 *
 * ```ts
 * const server = ExecServer.layer.pipe(
 *   Layer.provide(Memory.layer),
 *   Layer.provide(FakeSpawner.layer),
 *   Layer.provide(NodeServices.layer)
 * )
 * ```
 *
 * The real spawner is then built as well, but nothing is asked of it: it starts no process before its first child. Where
 * not even that should happen, provide the services one by one: `FakeSpawner.layer`, `OutputBuffer.layer`,
 * `MemoryFileSystem.layer()`, `HttpRunner.layer`.
 *
 * Sandboxes are enforced by bubblewrap, which is looked for when the first one is asked for. That needs a service that
 * takes part: a spawner which `confines`, and a file system which `isConfinable`. With another one in its place, requests
 * with a sandbox that restricts something are refused, and all others served.
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

/** What real processes of either kind have around them. */
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
 * The same, each process in a PID namespace of its own, which nothing outlives; fails where bubblewrap cannot make these.
 *
 * @category layers
 */
export const layerContained: Layer.Layer<Services, BubblewrapUnavailable> = inOrder(layerSpawnerContained, ...others)
