/**
 * The page of one process.
 *
 * @since 0.1.0
 */
import { useSignal } from "@preact/signals"
import { useEffect } from "preact/hooks"
import type { Feed } from "../Feed.js"
import * as Format from "../Format.js"
import { ask, attempt, now, tell } from "../Notices.js"
import { connection, grant, store } from "../Page.js"
import { addressOf } from "../Route.js"
import { keyOf, mayControl, mayList, mayManage } from "../Store.js"
import { commandOf, visible } from "../VisibleText.js"
import { LogPane } from "./LogPane.js"
import { ShareDialog } from "./ShareDialog.js"
import { State } from "./State.js"
import { TerminalPane } from "./TerminalPane.js"
import { UsagePanel } from "./UsagePanel.js"

const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT", "SIGKILL"]

/** How long a process may take to end on its own, in milliseconds. */
const graceMs = 10_000

const Actions = (props: {
  readonly session: string
  readonly processId: string
  readonly isOver: boolean
  readonly recording: string | null
}) => {
  const { session, processId, isOver, recording } = props
  const isSharing = useSignal(false)
  const about = { session, processId }
  const of = grant.value
  if (of === undefined) return null

  const signal = async (name: string) => {
    if (await attempt(() => connection.call("process/signal", { ...about, signal: name }))) tell(`${name} was sent.`)
  }
  const terminate = async (isForced: boolean) => {
    const yes = await ask({
      title: isForced ? "Kill this process?" : "Terminate this process?",
      text: isForced
        ? "It and all that it has started are killed at once (SIGKILL)."
        : `It and all that it has started are asked to end (SIGTERM), and killed after ${graceMs / 1000} seconds.`,
      yes: isForced ? "Kill" : "Terminate",
      isDangerous: true
    })
    const mode = isForced ? ({ type: "force" } as const) : ({ type: "graceful", timeoutMs: graceMs } as const)
    if (yes) await attempt(() => connection.call("process/terminate", { ...about, mode }))
  }
  const record = () =>
    attempt(async () => {
      if (recording === null) await connection.call("recording/start", about)
      else await connection.call("recording/stop", { recordingId: recording })
      await store.read()
      tell(recording === null ? "It is being recorded." : "The recording is under Recordings.")
    })

  return (
    <div class="controls">
      {!isOver && mayControl(of, session) && (
        <>
          <label>
            <span class="hidden">Send a signal</span>
            <select
              value=""
              onChange={({ currentTarget }) => {
                const { value } = currentTarget
                currentTarget.value = ""
                if (value !== "") void signal(value)
              }}
            >
              <option value="">Signal…</option>
              {signals.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <button type="button" onClick={() => void terminate(false)}>
            Terminate
          </button>
          <button type="button" class="danger" onClick={() => void terminate(true)}>
            Kill
          </button>
        </>
      )}
      {mayManage(of, session) && (
        <>
          {(!isOver || recording !== null) && (
            <button type="button" aria-pressed={recording !== null} onClick={() => void record()}>
              {recording === null ? "Record" : "Stop recording"}
            </button>
          )}
          <button
            type="button"
            onClick={() => {
              isSharing.value = true
            }}
          >
            Share
          </button>
        </>
      )}
      {isSharing.value && (
        <ShareDialog
          session={session}
          processId={processId}
          onClose={() => {
            isSharing.value = false
          }}
        />
      )}
    </div>
  )
}

/** What is known of a process that is in no list: that of a share. */
const useTty = (session: string, processId: string, isListed: boolean): boolean | undefined => {
  const tty = useSignal<boolean | undefined>(undefined)
  useEffect(() => {
    if (isListed) return
    return connection.whenOnline(() => {
      const from = { type: "live" } as const
      connection.call("process/attach", { session, processId, from, window: 16_384 }).then(
        ({ attachmentId, size }) => {
          tty.value = size !== null
          connection.call("attachment/detach", { attachmentId }).catch(() => {})
        },
        (error) => tell(error.message, true)
      )
    })
  }, [session, processId, isListed])
  return tty.value
}

/** The view. */
export const Process = ({ session, processId }: { readonly session: string; readonly processId: string }) => {
  const feed = useSignal<Feed | undefined>(undefined)
  const title = useSignal("")
  const isListed = grant.value !== undefined && mayList(grant.value)
  const info = store.find(session, processId)
  const probed = useTty(session, processId, isListed)
  const tty = info?.tty ?? probed
  const mayWrite = grant.value !== undefined && mayControl(grant.value, session)

  useEffect(() => {
    feed.value = undefined
    title.value = ""
  }, [session, processId])

  const name = info === undefined ? visible(processId, 60) : commandOf(info.argv)
  const shownTitle = visible(title.value || (feed.value?.facts.title.value ?? info?.title ?? ""), 120)
  useEffect(() => {
    const { title } = document
    document.title = `${shownTitle || name} - ${title}`
    return () => {
      document.title = title
    }
  }, [shownTitle, name])

  if (isListed && info === undefined && store.isLoaded.value && feed.value === undefined) {
    return (
      <main class="page">
        <h1>No such process</h1>
        <p>
          <bdi>{visible(processId, 100)}</bdi> is not in the list any more: it has ended, and its output is no longer
          kept.
        </p>
        <a href={addressOf({ _tag: "List" })}>All processes</a>
      </main>
    )
  }

  const facts = feed.value?.facts
  const exit = facts?.exit.value
  const phase = facts?.phase.value
  const standing = {
    running: exit === undefined && (info?.running ?? true),
    exitCode: exit?.exitCode ?? info?.exitCode ?? null,
    signal: exit?.signal ?? info?.signal ?? null
  }
  const isOver = !standing.running
  const viewers = facts?.viewers.value ?? []
  const recording = info?.recording ?? null
  return (
    <main class="process">
      <div class="head">
        <div class="what">
          <h1>
            <bdi title={name}>{name}</bdi>
          </h1>
          <p class="sub">
            <State of={standing} />
            {recording !== null && <span class="badge recording">recording</span>}
            {shownTitle !== "" && <bdi class="title">{shownTitle}</bdi>}
            {isOver && (standing.exitCode !== null || standing.signal !== null) && (
              <span>{Format.exit({ ...exit, ...standing })}</span>
            )}
            {info !== undefined && (
              <>
                <span>pid {info.pid ?? "—"}</span>
                <span>started {Format.duration(now.value - info.startedAtMs)} ago</span>
                {info.cwd !== undefined && <bdi>{visible(info.cwd, 120)}</bdi>}
                {(info.restarts ?? 0) > 0 && <span>restarted {info.restarts}×</span>}
              </>
            )}
            {viewers.length > 0 && (
              <span title={viewers.map((one) => `${visible(one.name, 60)} (${one.role})`).join(", ")}>
                {viewers.length} watching
              </span>
            )}
          </p>
        </div>
        <Actions session={session} processId={processId} isOver={isOver} recording={recording} />
      </div>
      {phase?._tag === "Over" && (
        <p class="banner" role="status">
          {phase.message}
        </p>
      )}
      {tty !== undefined &&
        (tty ? (
          <TerminalPane
            key={`${session}/${processId}`}
            process={{ session, processId, tty, running: !isOver }}
            mayWrite={mayWrite}
            onFeed={(opened) => {
              feed.value = opened
            }}
            onTitle={(text) => {
              title.value = text
            }}
          />
        ) : (
          <LogPane
            key={`${session}/${processId}`}
            process={{ session, processId, tty, running: !isOver }}
            mayWrite={mayWrite}
            onFeed={(opened) => {
              feed.value = opened
            }}
          />
        ))}
      <UsagePanel
        session={session}
        processId={processId}
        points={store.usage.value.get(keyOf({ session, processId })) ?? []}
      />
    </main>
  )
}
