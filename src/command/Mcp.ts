/**
 * `mcp`: offers this machine, a server or several to an agent, as tools of the Model Context Protocol on stdin and
 * stdout.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { type Source, thisMachine } from "../mcp/Machines.js"
import * as Stdio from "../mcp/Stdio.js"
import type { Selection } from "../mcp/Tools.js"
import type * as Target from "./Target.js"
import * as UrlVariable from "./UrlVariable.js"

/** The arguments of `mcp`. */
export interface Options {
  readonly target: Target.Target
  readonly tools: Selection
  readonly login: boolean
}

const loadTarget = Effect.promise(() => import("./Target.js"))

/** What commands have printed is kept here: the session need not keep it too. */
const retention = 0

/** This machine. Agents wait for the list of the tools: nothing that only a call needs is loaded before. */
const local = (target: Target.Target): Source => ({
  id: "local",
  host: thisMachine(),
  connect: Effect.flatMap(loadTarget, ({ connect }) => connect(target, { retention }))
})

/** The environments of the flags. Wrong ones are refused before any of them is connected. */
const sourcesOf = (target: Target.Target) =>
  Effect.gen(function* () {
    const { check, connect, each, placeOf, transient } = yield* loadTarget
    const [first, ...others] = yield* each(target)
    for (const { target } of [first, ...others]) yield* check(target)
    const source = ({ id, target }: typeof first): Source => ({
      id,
      host: placeOf(target) ?? thisMachine(),
      // Its processes end with this command, even if it is killed.
      connect: connect(target, { ...transient, retention })
    })
    return [source(first), ...others.map(source)] as const
  })

/** Serves until the input ends. Nothing is connected before the first call. */
export const mcp = ({ target, tools, login }: Options) =>
  Effect.gen(function* () {
    const { url = UrlVariable.read(), env, environments } = target
    const isHere = url === undefined && env === undefined && environments === undefined
    const sources = isHere ? ([local(target)] as const) : yield* sourcesOf(target)
    yield* Stdio.serve({ sources, tools, login })
  })
