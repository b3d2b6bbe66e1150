/**
 * `ps`: lists the processes of a session, or of all visible sessions.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { need } from "../client/ServerFeatures.js"
import * as PlainText from "../internal/PlainText.js"
import type { ProcessInfo } from "../protocol/ExecApi.js"
import * as Table from "./Table.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

const stateOf = ({ running, signal, exitCode }: ProcessInfo): string =>
  running ? "running" : signal === null ? `exited ${exitCode ?? "?"}` : `killed ${signal}`

/** The cells of a process in a table. */
export const rowOf = (info: ProcessInfo, now: number): ReadonlyArray<string> => [
  PlainText.quote(info.processId),
  String(info.pid ?? "-"),
  stateOf(info),
  info.tty ? "yes" : "no",
  Table.duration(now - info.startedAtMs),
  info.argv.map(PlainText.quote).join(" ")
]

/** Prints the processes as a table, or with `json` as one object per line. */
export const ps = ({ target, json }: { readonly target: Target.Target; readonly json: boolean }) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { client, isAll } = yield* Target.connectToProcesses(target)
      yield* need(client.features, client.features.extensions, "list its processes")
      const { processes } = yield* client.call("process/list", isAll ? { session: "*" } : {})
      if (isAll) yield* Target.tellIfOnlyOwn(client)
      const now = yield* Clock.currentTimeMillis
      const text = json
        ? processes.map((info) => `${PlainText.json(info)}\n`).join("")
        : Table.format(
            [...(isAll ? ["SESSION"] : []), "ID", "PID", "STATE", "TTY", "AGE", "COMMAND"],
            processes.map((info) => [...(isAll ? [info.session ?? "-"] : []), ...rowOf(info, now)])
          )
      yield* Terminal.write("stdout", text)
    })
  )
