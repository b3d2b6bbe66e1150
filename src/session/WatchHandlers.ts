/**
 * The handlers of attachments and of the events of sessions.
 *
 * @since 0.1.0
 */
import type { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import type { ManagedProcess } from "../process/ManagedProcess.js"
import type { ProcessInfo, StartParams } from "../protocol/ExecApi.js"
import {
  type Failure,
  Forbidden,
  LimitReached,
  NotAllowed,
  NotATerminal,
  UnknownAttachment,
  UnknownProcess
} from "../protocol/Failure.js"
import type { TerminalSize } from "../protocol/ProcessSchemas.js"
import { type AttachFrom, WatchApi } from "../protocol/WatchApi.js"
import * as Screens from "../screen/Screens.js"
import * as Access from "./Access.js"
import { Attachment } from "./Attachment.js"
import * as AuditLog from "./AuditLog.js"
import { CurrentConnection } from "./CurrentConnection.js"
import { initialized } from "./Handshake.js"
import { grantedWindow } from "./OutputWindow.js"
import * as Reached from "./Reached.js"
import { SessionLimits } from "./SessionLimits.js"
import { type Session, SessionRegistry } from "./SessionRegistry.js"
import { type Host, type NoScreen, Watched } from "./Watched.js"

/** What the client of a new attachment knows. */
interface Beginning extends Omit<Screens.Snapshot, "size" | "screen" | "resizes"> {
  readonly resizes?: number
  readonly size: TerminalSize | null
  readonly screen: Buffer | null
}

/** Attachment ids are 32-bit numbers in binary frames. */
const maxId = 4294967295

/** The watched processes of one server. */
class Watches {
  private readonly all = new Map<ManagedProcess, Watched>()
  private lastId = 0

  constructor(private readonly host: Omit<Host, "onForgotten">) {}

  of(session: Session, process: ManagedProcess): Watched {
    const known = this.all.get(process)
    if (known !== undefined) return known
    const onForgotten = () => void this.all.delete(process)
    const watched = new Watched(process, session.handle, { ...this.host, onForgotten })
    this.all.set(process, watched)
    return watched
  }

  find(process: ManagedProcess): Watched | undefined {
    return this.all.get(process)
  }

  nextId(): number {
    this.lastId = (this.lastId % maxId) + 1
    return this.lastId
  }
}

/** Who watches what on one server. */
export interface Watching {
  /** What `process/list` tells: how many attachments a process has, and the title of its terminal. */
  readonly describe: (process: ManagedProcess) => Required<Pick<ProcessInfo, "viewers" | "title">>
  /** Starts a process, and keeps its screen from the start if the request says so. */
  readonly starting: <A, E>(
    session: Session,
    params: Pick<StartParams, "processId" | "screen">,
    start: Effect.Effect<A, E>
  ) => Effect.Effect<A, E | LimitReached>
}

/** The attachments of a server: the handlers, and what other handlers need of them. */
export const make = Effect.gen(function* () {
  const registry = yield* SessionRegistry
  const { maxViewersPerProcess, maxScreens } = yield* SessionLimits
  const audit = yield* AuditLog.AuditLog
  const screens = yield* Screens.make(maxScreens)
  const fork = yield* FiberSet.makeRuntime<never>()
  const watches = new Watches({ screens, console: registry.console, fork })
  const reach = Reached.process(registry)

  /** The attachment of the connection with this id, and what it watches. */
  const found = (attachmentId: number) =>
    Effect.flatMap(CurrentConnection, ({ attachments }) => {
      const attachment = attachments().find(attachmentId)
      return attachment === undefined ? Exit.fail(new UnknownAttachment({ attachmentId })) : Exit.succeed(attachment)
    })

  /** Where an attachment begins; with the screen if it was asked for. */
  const begin = (watched: Watched, from: AttachFrom): Effect.Effect<Beginning, NoScreen> => {
    const { process } = watched
    switch (from.type) {
      case "screen":
        return watched.show(from.scrollback ?? 0)
      case "seq": {
        const seq = Math.min(from.afterSeq, process.lastSeq)
        const gap = process.retained.gap()
        const truncated = gap !== undefined && gap.throughSeq > seq
        const size = process.marks?.sizeAfter(seq) ?? null
        return Effect.succeed({ seq, size, screen: null, title: null, truncated })
      }
      case "live": {
        const size = process.currentSize ?? null
        return Effect.succeed({ seq: process.lastSeq, size, screen: null, title: null, truncated: false })
      }
    }
  }

  const handlers = WatchApi.of({
    "process/attach": (params) =>
      Effect.gen(function* () {
        const { session: own, grant } = yield* initialized
        const attachments = (yield* CurrentConnection).attachments()
        const { processId, from, window, name = own.name ?? own.clientName, size } = params
        const { process, session, who } = yield* reach("process/attach", params, (process, reached) =>
          Exit.succeed({ process, ...reached })
        )
        const { refusal } = attachments
        if (refusal !== undefined) return yield* refusal
        const watched = watches.of(session, process)
        if (watched.count >= maxViewersPerProcess) {
          const advice = "detach from the process elsewhere first"
          return yield* new LimitReached({ limit: "maxViewersPerProcess", value: maxViewersPerProcess, advice })
        }
        const mayControl =
          session === own
            ? Access.reachOf(grant, "control") !== "none"
            : Access.refusalOfOther(grant, "process/write", "control", { session: session.handle, processId }) ===
              undefined
        const description = {
          id: watches.nextId(),
          name,
          role: mayControl ? ("operator" as const) : ("viewer" as const),
          size,
          window: grantedWindow(window)
        }
        const attachment = new Attachment(description, watched, attachments)
        attachments.add(attachment)
        watched.join(attachment)
        audit.write(who, { event: "process.attach", processId, role: description.role })
        const { resizes, ...begun } = yield* Effect.onError(begin(watched, from), () =>
          Effect.sync(() => attachment.stop())
        )
        // The process was forgotten meanwhile.
        if (attachments.find(attachment.id) === undefined) return yield* new UnknownProcess({ processId })
        attachment.beginAt(begun.seq, resizes)
        return {
          attachmentId: attachment.id,
          role: description.role,
          ...begun,
          ...process.status(),
          viewers: watched.viewers()
        }
      }),

    "attachment/detach": ({ attachmentId }) =>
      Effect.map(found(attachmentId), (attachment) => {
        attachment.end("detached")
        return {}
      }),

    "attachment/screen": ({ attachmentId, scrollback = 0 }) =>
      Effect.flatMap(found(attachmentId), ({ process }): Effect.Effect<Screens.Snapshot, Failure> => {
        const { processId } = process
        return watches.find(process)?.show(scrollback) ?? new UnknownProcess({ processId })
      }),

    "attachment/drive": ({ attachmentId, take, size }) =>
      Effect.flatMap(found(attachmentId), (attachment): Effect.Effect<{ readonly size: TerminalSize }, Failure> => {
        if (attachment.role !== "operator") {
          return new Forbidden({ message: "this attachment may only view (attachment/drive needs operator)" })
        }
        const { process } = attachment
        const { sizePolicy = "owner" } = process.description
        const watched = watches.find(process)
        const current = process.currentSize
        if (watched === undefined || current === undefined) {
          return new NotATerminal({ processId: process.processId })
        }
        if (sizePolicy === "owner") {
          return new NotAllowed({ message: "the owner keeps the size (sizePolicy owner)" })
        }
        const wanted = size ?? attachment.size ?? current
        if (take) watched.drive(attachment, wanted)
        else watched.letGo(attachment)
        return Effect.succeed({ size: take ? wanted : current })
      }),

    "console/watch": () =>
      Effect.gen(function* () {
        const { session: own, grant } = yield* initialized
        const { attachments: watched, onEnd, holds } = yield* CurrentConnection
        const attachments = watched()
        if (attachments.watchesConsole) return {}
        attachments.watchesConsole = true
        const seesAll = Access.reachOf(grant, "list") === "all"
        const watch = registry.console.watch(attachments.sink, (session) => seesAll || session === own.handle)
        attachments.whenDrained(watch.onDrain)
        onEnd(Effect.sync(watch.stop))
        holds("watches of the server", () => 1)
        return {}
      })
  })

  const watching: Watching = {
    describe: (process) => {
      const { count = 0, title = null } = watches.find(process) ?? {}
      return { viewers: count, title }
    },
    starting: (session, { processId, screen = false }, start) => {
      if (!screen) return start
      return Effect.flatMap(screens.reserve, (place) =>
        start.pipe(
          Effect.tap(() => {
            const process = session.supervisor.find(processId)
            if (process === undefined) place.cancel()
            else watches.of(session, process).keepScreen(place.open(process))
          }),
          Effect.onError(() => Effect.sync(place.cancel))
        )
      )
    }
  }
  return { handlers, watching }
})
