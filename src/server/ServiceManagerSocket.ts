/**
 * Tells the service manager that has started the server how it is, as sd_notify(3) does: that it listens, is replaced by
 * another version, or ends. As long as the event loop turns, it answers the watchdog.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ServiceVariables } from "../internal/ServiceVariables.js"
import { timerMs } from "../internal/Timer.js"
import * as OsError from "../protocol/OsError.js"
import * as Host from "../spawn/Host.js"
import { ServiceManager } from "./ServiceManager.js"

/** How long to wait if the manager has not read what it was told before, in milliseconds. */
const againMs = 100

/** The most messages that wait for it. Beyond it the oldest is dropped: a later one says how the server is. */
const maxWaiting = 16

/** Line breaks end an assignment, and the journal shows the first part of long ones. */
const statusOf = (text: string) => `STATUS=${text.replaceAll(/[\r\n]+/g, " ").slice(0, 1000)}`

/** The time between answers to the watchdog, in milliseconds: half of the limit. Undefined if there is none. */
const watchdogMs = ({ WATCHDOG_USEC, WATCHDOG_PID }: ServiceVariables): number | undefined => {
  if (WATCHDOG_USEC === undefined || !/^[1-9]\d{0,15}$/.test(WATCHDOG_USEC)) return undefined
  if (WATCHDOG_PID !== undefined && WATCHDOG_PID !== String(process.pid)) return undefined
  return timerMs(Math.max(1, Math.floor(Number(WATCHDOG_USEC) / 2000)))
}

/**
 * The manager that these variables name. A message that it cannot be sent is logged, and costs nothing else.
 *
 * @category layers
 */
export const layer = (variables: ServiceVariables): Layer.Layer<never> =>
  Layer.scoped(
    ServiceManager,
    Effect.gen(function* () {
      const { NOTIFY_SOCKET: address = "" } = variables
      const runtime = yield* Effect.runtime<never>()
      const intervalMs = watchdogMs(variables)
      const waiting: Array<string> = []
      let retry: NodeJS.Timeout | undefined
      let watchdog: NodeJS.Timeout | undefined
      let hasFailed = false

      const flush = () => {
        retry = undefined
        for (let message = waiting[0]; message !== undefined; message = waiting[0]) {
          try {
            Host.notify(address, message)
          } catch (error) {
            const code = OsError.codeOf(error)
            if (code === "EAGAIN" || code === "ENOBUFS") {
              retry = setTimeout(flush, againMs).unref()
              return
            }
            if (!hasFailed) {
              const why = `the service manager at ${address} cannot be told how the server is: ${OsError.describe(error)}`
              Effect.runFork(Effect.provide(Effect.logWarning(why), runtime))
            }
            hasFailed = true
          }
          waiting.shift()
        }
      }
      const tell = (...lines: ReadonlyArray<string>) =>
        Effect.sync(() => {
          waiting.push(lines.join("\n"))
          if (waiting.length > maxWaiting) waiting.shift()
          if (retry === undefined) flush()
        })
      const answer = () => {
        // What waits shows that the manager does not read.
        if (waiting.length === 0) Effect.runSync(tell("WATCHDOG=1"))
      }
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          clearTimeout(retry)
          clearInterval(watchdog)
        })
      )
      return {
        ready: (status) =>
          Effect.zipRight(
            Effect.sync(() => {
              if (intervalMs !== undefined) watchdog ??= setInterval(answer, intervalMs).unref()
            }),
            tell("READY=1", statusOf(status))
          ),
        // hrtime is CLOCK_MONOTONIC, which the manager compares it with.
        reloading: Effect.suspend(() =>
          tell(
            "RELOADING=1",
            `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`,
            statusOf("another version is about to take over")
          )
        ),
        stopping: tell("STOPPING=1", statusOf("ending all processes"))
      }
    })
  )
