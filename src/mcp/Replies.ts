/**
 * What a model reads: a first line in brackets with the state, the time, the number and what is missing; then the
 * output, and nothing after it.
 *
 * @since 0.1.0
 */
import type { Part, State } from "./CommandSession.js"
import type { Listed, Report, ShownScreen } from "./UnifiedExec.js"

/**
 * When the number of a command is of use.
 *
 * @category models
 */
export type Naming = "always" | "ifUseful"

/**
 * A number with separators: `30,000`.
 *
 * @category utilities
 */
export const grouped = (count: number): string => String(count).replaceAll(/\B(?=(?:\d{3})+$)/g, ",")

/**
 * A number of things: `1 line`, `30,000 lines`.
 *
 * @category utilities
 */
export const counted = (count: number, unit: string): string => `${grouped(count)} ${unit}${count === 1 ? "" : "s"}`

const seconds = (ms: number): string => `${ms < 9950 ? (ms / 1000).toFixed(1) : Math.round(ms / 1000)} s`

const stateText = (state: State): string => {
  switch (state._tag) {
    case "Running":
      return "still running"
    case "Lost":
      return `is lost: ${state.reason}`
    case "Ended": {
      const { exitCode, signal, timedOut } = state.exit
      if (timedOut === true) return "timed out and was killed"
      if (signal !== null) return `was ended by ${signal} (exit code ${exitCode})`
      return exitCode === null ? "ended with an unknown exit code" : `exit code ${exitCode}`
    }
  }
}

const timeText = (state: State, elapsedMs: number): string =>
  `${stateText(state)}${state._tag === "Running" ? " " : ", "}after ${seconds(elapsedMs)}`

const firstLine = ({ sessionId, state, elapsedMs, output, found }: Report, naming: Naming): string => {
  const { omitted, lines, bytes } = output
  const holds = state._tag === "Ended" && state.holdsOutput
  const isUseful = naming === "always" || state._tag === "Running" || omitted !== undefined
  const named = isUseful && !holds ? `, session_id ${sessionId}` : ""
  const notes = [
    ...(holds ? [`something it started still holds its output; session_id ${sessionId}`] : []),
    ...(found === undefined ? [] : [`found ${JSON.stringify(found)}`]),
    ...(omitted === undefined
      ? []
      : [
          `${counted(lines, "line")}, ${counted(bytes, "byte")} of output, the middle is left out: read_output ` +
            `{"session_id": ${sessionId}, "offset": BYTE} shows any part`
        ])
  ]
  return `[${[`${timeText(state, elapsedMs)}${named}`, ...notes].join("; ")}]`
}

const outputText = ({ sessionId, output }: Report, none: string): string => {
  const { head, tail, omitted, isScreen } = output
  if (isScreen) return `[the program draws a screen; as it stands:]\n${head}`
  if (omitted === undefined) return head === "" ? none : head
  const { lines, bytes, offset } = omitted
  const hint =
    `[... ${counted(lines, "line")}, ${counted(bytes, "byte")} left out; to see them: ` +
    `read_output {"session_id": ${sessionId}, "offset": ${offset}} ...]`
  return [head, hint, tail].filter((part) => part !== "").join("\n")
}

/**
 * A command and its new output.
 *
 * @category utilities
 */
export const report = (given: Report, naming: Naming): string => {
  const { notDone } = given
  return [
    ...(notDone === undefined ? [] : [`[${notDone}]`]),
    firstLine(given, naming),
    outputText(given, naming === "always" ? "(no new output)" : "(no output)")
  ].join("\n")
}

/**
 * A part of the kept output.
 *
 * @category utilities
 */
export const part = ({ text, from, to, length, asked }: Part): string => {
  const lost = asked < from ? `; bytes ${asked} to ${from} are no longer kept` : ""
  const next = to < length ? `; next offset ${to}` : ""
  return `[bytes ${from} to ${to} of ${length}${lost}${next}]\n${text === "" ? "(no output)" : text}`
}

/**
 * The screen of a terminal.
 *
 * @category utilities
 */
export const screen = (sessionId: number, { screen, size, cursor, isFullScreen, state }: ShownScreen): string => {
  const standing = state._tag === "Running" ? "running" : stateText(state)
  const kind = isFullScreen ? "; full-screen program" : ""
  const place = `cursor at row ${cursor.row + 1}, column ${cursor.col + 1}`
  const first = `[${size.cols}x${size.rows} screen of session ${sessionId}, ${standing}; ${place}${kind}]`
  return `${first}\n${screen.join("\n").trimEnd() || "(empty)"}`
}

const listed = ({ sessionId, cmd, environment, tty, state, elapsedMs, startedMsAgo }: Listed, isOne: boolean) => {
  const standing = state._tag === "Running" ? `running for ${seconds(elapsedMs)}` : timeText(state, elapsedMs)
  const holds = state._tag === "Ended" && state.holdsOutput ? "; something it started still holds its output" : ""
  const where = `${isOne ? "" : ` in ${environment}`}${tty ? ", tty" : ""}`
  const line = cmd.length > 200 ? `${cmd.slice(0, 200)}...` : cmd
  return `session_id ${sessionId}${where}: ${standing}${holds}, started ${seconds(startedMsAgo)} ago: ${line.replaceAll("\n", "\\n")}`
}

/**
 * All commands. `isOne`: all are in one environment.
 *
 * @category utilities
 */
export const list = (sessions: ReadonlyArray<Listed>, isOne: boolean): string => {
  const running = sessions.filter(({ state }) => state._tag === "Running").length
  const lines = sessions.map((session) => listed(session, isOne))
  return [`[${counted(running, "command")} running, ${sessions.length - running} ended]`, ...lines].join("\n")
}

/**
 * A call that could not be carried out.
 *
 * @category utilities
 */
export const failed = (message: string): string => `[failed: ${message}]`
