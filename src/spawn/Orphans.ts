/**
 * Reaps orphans, where the server is the first process of a container: the kernel gives it every process there whose
 * parent has ended. Unless somebody waits for them, they stay as zombies, until no process can be started any more.
 *
 * @since 0.1.0
 */
import type { ChildProcess } from "node:child_process"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Host from "./Host.js"
import * as Posix from "./Posix.js"

/** Deaths within this time, in milliseconds, are looked at together. */
const pauseMs = 100

/** How long the owner of a child that has ended may take to wait for it before it is looked at again, in milliseconds. */
const againMs = 1000

/** The zombies among the children of this process. */
const zombies = (): ReadonlyArray<number> => {
  const table = Posix.processTable()
  const found: Array<number> = []
  for (let row = 0; row < table.length; row += Posix.rowLength) {
    const [pid = 0, state = 0, parent] = table.subarray(row, row + 3)
    if (parent === process.pid && String.fromCharCode(state) === "Z") found.push(pid)
  }
  return found
}

/**
 * Notes, until the scope closes, which children this process waits for: what `Posix` has started is known to it, and
 * what node:child_process starts is announced on a channel. The effect that it gives begins to reap all others.
 */
export const watch: Effect.Effect<Effect.Effect<void>, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => {
    const others = new Set<ChildProcess>()
    let timer: NodeJS.Timeout | undefined

    const isOfNode = (pid: number) => {
      for (const child of others) {
        if (child.exitCode !== null || child.signalCode !== null) others.delete(child)
        else if (child.pid === pid) return true
      }
      return false
    }

    const look = () => {
      timer = undefined
      if (Host.anyEnded() === 0) return
      let isOwned = false
      for (const pid of zombies()) {
        // In this order: a thread that has started a child tells so before the child can be the main thread's.
        if (!Host.hasEnded(pid)) continue
        if (isOfNode(pid) || Posix.owns(pid)) isOwned = true
        else Host.reap(pid)
      }
      if (isOwned) lookIn(againMs)
    }
    const lookIn = (ms: number) => {
      timer ??= setTimeout(look, ms).unref()
    }

    const onChild = () => lookIn(pauseMs)
    const onStart = (message: unknown) => {
      for (const child of others) {
        if (child.exitCode !== null || child.signalCode !== null) others.delete(child)
      }
      others.add((message as { readonly process: ChildProcess }).process)
    }
    subscribe("child_process", onStart)
    return {
      begin: () => {
        process.on("SIGCHLD", onChild)
        lookIn(pauseMs)
      },
      stop: () => {
        unsubscribe("child_process", onStart)
        process.off("SIGCHLD", onChild)
        clearTimeout(timer)
      }
    }
  }),
  ({ stop }) => Effect.sync(stop)
).pipe(Effect.map(({ begin }) => Effect.sync(begin)))
