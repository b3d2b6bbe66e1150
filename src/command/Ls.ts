/**
 * `ls`: lists the sessions of a server and their processes.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as ExecClient from "../client/ExecClient.js"
import * as PlainText from "../internal/PlainText.js"
import type { ProcessInfo, SessionInfo } from "../protocol/ExecApi.js"
import * as Ps from "./Ps.js"
import * as Table from "./Table.js"
import * as Target from "./Target.js"
import * as Terminal from "./Terminal.js"

/** The arguments of `ls`. */
export interface Options {
  readonly target: Target.Target
  readonly json: boolean
  /** Repeat the list whenever it changes. */
  readonly watch: boolean
}

/** The time between two lists, in milliseconds. */
const intervalMs = 1000

/** A session with its processes. */
interface Listed {
  readonly session: SessionInfo
  readonly processes: ReadonlyArray<ProcessInfo>
}

/** The sessions besides the one of this command, with their processes. */
const list = ({ sessions }: ExecClient.Shape) =>
  Effect.zipWith(
    sessions.list,
    sessions.processes(),
    (all, processes): ReadonlyArray<Listed> =>
      all
        .filter(({ own }) => !own)
        .map((session) => ({ session, processes: processes.filter((one) => one.session === session.session) }))
  )

const header = ["SESSION", "NAME", "CLIENT", "STATE", "ID", "PID", "PROCESS", "TTY", "AGE", "COMMAND"]

const stateOf = ({ state, expiresAtMs }: SessionInfo, now: number) => {
  if (state === "attached") return state
  return expiresAtMs === null ? "kept" : `detached, ${Table.duration(expiresAtMs - now)}`
}

/** The rows of a session: one per process, or one for a session without any. */
const rowsOf = ({ session, processes }: Listed, now: number): ReadonlyArray<ReadonlyArray<string>> => {
  const cells = [session.session, session.name ?? "-", PlainText.quote(session.clientName), stateOf(session, now)]
  if (processes.length === 0) return [[...cells, "-", "-", "-", "-", Table.duration(now - session.openedAtMs), "-"]]
  return processes.map((info) => [...cells, ...Ps.rowOf(info, now)])
}

const toTable = (listed: ReadonlyArray<Listed>, now: number) =>
  Table.format(
    header,
    listed.flatMap((one) => rowsOf(one, now))
  )

const toJson = (listed: ReadonlyArray<Listed>) =>
  listed.map(({ session, processes }) => `${PlainText.json({ ...session, processes })}\n`).join("")

/** Prints the sessions as a table with a row per process, or with `json` as one object per line. */
export const ls = ({ target, json, watch }: Options) =>
  Effect.scoped(
    Effect.gen(function* () {
      yield* Target.needRemote(target, "to list")
      const { client } = yield* Target.connect(target, Target.transient)
      let shown: string | undefined
      const print = Effect.gen(function* () {
        const listed = yield* list(client)
        if (listed.length === 0 && !watch) yield* Terminal.say(Target.onlyOwn)
        const text = json ? toJson(listed) : toTable(listed, yield* Clock.currentTimeMillis)
        if (text === shown) return
        // On a terminal, the table replaces the previous one.
        const clear = !json && watch && Terminal.size() !== undefined ? "\u001b[H\u001b[2J" : ""
        shown = text
        yield* Terminal.write("stdout", `${clear}${text}`)
      })
      yield* print
      if (watch) yield* Effect.forever(Effect.delay(print, intervalMs))
    })
  )
