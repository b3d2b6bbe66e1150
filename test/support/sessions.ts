/** Sessions with fake children, and recording notifiers. */
import * as Layer from "effect/Layer"
import { FileSystem } from "../../src/filesystem/FileSystem.js"
import { HttpRunner } from "../../src/http/HttpRunner.js"
import { OutputBuffer } from "../../src/process/OutputBuffer.js"
import * as ExecServer from "../../src/server/ExecServer.js"
import type { Notifier } from "../../src/session/Notifier.js"
import { FakeSpawner, type Plan } from "../../src/testing/FakeSpawner.js"

export const registryLayer = (
  plan: Plan = {},
  {
    files = FileSystem.layer,
    http = HttpRunner.layer
  }: {
    readonly files?: Layer.Layer<FileSystem>
    readonly http?: Layer.Layer<HttpRunner>
  } = {}
) =>
  ExecServer.layerSessions.pipe(
    Layer.provide([OutputBuffer.layer, files, http]),
    Layer.provideMerge(FakeSpawner.layerOf(plan))
  )

/** One recorded call of a notifier: `started`, `output 3`, `exited 4`, `closed 5`, `drain`, `stop`. */
export type Heard = string

/** A notifier that records its calls. */
export const listener = (): { readonly notifier: Notifier; readonly heard: ReadonlyArray<Heard> } => {
  const heard: Array<Heard> = []
  return {
    heard,
    notifier: {
      onStarted: () => heard.push("started"),
      onFailed: () => heard.push("failed"),
      onOutput: (_, seq) => heard.push(`output ${seq}`),
      onRestarted: (_, seq) => heard.push(`restarted ${seq}`),
      onExited: (_, seq) => heard.push(`exited ${seq}`),
      onClosed: (_, seq) => heard.push(`closed ${seq}`),
      acknowledge: (_, seq) => heard.push(`acknowledge ${seq}`),
      onDrain: () => heard.push("drain"),
      stop: () => heard.push("stop")
    }
  }
}
