/**
 * The form that starts a command in the session of the page.
 *
 * @since 0.1.0
 */
import { useSignal } from "@preact/signals"
import type { ComponentChildren } from "preact"
import { textOf } from "../Channel.js"
import * as Format from "../Format.js"
import { connection, grant, machine, outputs, store } from "../Page.js"
import { go } from "../Route.js"
import type { Params } from "../Wire.js"
import { split, variables } from "../Words.js"

/** What a terminal is: a server adds nothing of this. */
const terminalEnv = { TERM: "xterm-256color", COLORTERM: "truecolor" }

const restartDefaults = { withinMs: 60_000, backoffMs: 1000, maxBackoffMs: 30_000 }

const newId = () => `c-${crypto.getRandomValues(new Uint32Array(1))[0]?.toString(16).padStart(8, "0")}`

/** What the fields say, or what is wrong with them. */
type Request = { readonly _tag: "Start"; readonly params: Params<"process/start"> } | { _tag: "Wrong"; message: string }

const wrong = (message: string): Request => ({ _tag: "Wrong", message })

const requestOf = (form: FormData, shell: string): Request => {
  const text = (name: string) => String(form.get(name) ?? "").trim()
  const command = text("command")
  const tty = form.get("output") !== "pipes"
  const isShell = form.get("shell") !== null
  const found = split(command)
  if (!isShell && found._tag === "OpenQuote") return wrong("The command has a quote that is not closed.")
  if (!isShell && command === "") return wrong("Say which command to start.")
  if (isShell && command === "" && !tty) return wrong("A shell without a command needs a terminal.")
  const words = found._tag === "Words" ? found.words : []
  const argv = isShell ? (command === "" ? [shell, "-l"] : [shell, "-c", command]) : words
  const env = variables(String(form.get("env") ?? ""))
  if (env._tag === "Wrong") return wrong(`Not an environment variable: ${env.line}. Write NAME=value.`)
  const inherit = text("inherit")
  if (inherit !== "all" && inherit !== "core" && inherit !== "none") return wrong("Say what to inherit.")
  const seconds = text("timeout") === "" ? undefined : Number(text("timeout"))
  if (seconds !== undefined && !(seconds > 0)) return wrong("The time limit is a number of seconds above 0.")
  const policy = text("restart")
  const maxRestarts = Number(text("maxRestarts") || "5")
  if (!Number.isInteger(maxRestarts) || maxRestarts < 0) return wrong("The restarts are a whole number.")
  return {
    _tag: "Start",
    params: {
      processId: text("name") || newId(),
      argv,
      cwd: text("cwd"),
      env: { ...(tty ? terminalEnv : {}), ...env.variables },
      envPolicy: { inherit, ignoreDefaultExcludes: false, exclude: [], set: {}, includeOnly: [] },
      tty,
      ...(tty ? { sizePolicy: "driver" } : { pipeStdin: form.get("stdin") !== null }),
      ...(seconds === undefined ? {} : { timeoutMs: Math.round(seconds * 1000) }),
      ...(form.get("record") === null ? {} : { record: {} }),
      ...(policy === "onFailure" || policy === "always" ? { restart: { policy, maxRestarts, ...restartDefaults } } : {})
    }
  }
}

const Field = (props: { readonly label: string; readonly hint?: string; readonly children: ComponentChildren }) => (
  <div class="field">
    {/* biome-ignore lint/a11y/noLabelWithoutControl: the control is among the children */}
    <label class="field">
      <span>{props.label}</span>
      {props.children}
    </label>
    {props.hint !== undefined && <small>{props.hint}</small>}
  </div>
)

/** The view. */
export const StartForm = () => {
  const message = useSignal("")
  const isBusy = useSignal(false)
  const output = useSignal<"terminal" | "pipes">("terminal")
  const policy = useSignal("never")
  const shell = machine.value?.shell?.path ?? "/bin/sh"

  const start = async (form: HTMLFormElement) => {
    const request = requestOf(new FormData(form), shell)
    if (request._tag === "Wrong") {
      message.value = request.message
      return
    }
    const { params } = request
    isBusy.value = true
    message.value = ""
    try {
      outputs.hold(params.processId)
      await connection.call("process/start", params)
      await store.read().catch(() => {})
      go({ _tag: "Process", session: grant.value?.session ?? "", processId: params.processId })
    } catch (error) {
      outputs.claim(params.processId)
      message.value = textOf(error)
    } finally {
      isBusy.value = false
    }
  }

  return (
    <main class="page narrow">
      <h1>Start a command</h1>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void start(event.currentTarget)
        }}
      >
        <Field label="Command" hint={`Empty: a login shell (${shell}).`}>
          <input
            class="mono"
            name="command"
            autoFocus
            autoComplete="off"
            autoCapitalize="off"
            spellcheck={false}
            placeholder="npm run build"
          />
        </Field>
        <label class="check">
          <input type="checkbox" name="shell" defaultChecked /> Run it with the shell
        </label>
        <Field label="Working directory">
          <input
            class="mono"
            name="cwd"
            required
            spellcheck={false}
            autoCapitalize="off"
            defaultValue={Format.path(machine.value?.cwd ?? "/")}
          />
        </Field>
        <fieldset>
          <legend>Output</legend>
          {(["terminal", "pipes"] as const).map((kind) => (
            <label class="check" key={kind}>
              <input
                type="radio"
                name="output"
                value={kind}
                checked={output.value === kind}
                onChange={() => {
                  output.value = kind
                }}
              />
              {kind === "terminal" ? "A terminal" : "Pipes: stdout and stderr apart"}
            </label>
          ))}
          {output.value === "pipes" && (
            <label class="check">
              <input type="checkbox" name="stdin" /> It reads what is typed (stdin)
            </label>
          )}
        </fieldset>
        <details>
          <summary>More: name, environment, limits, restarts, recording</summary>
          <div class="rows">
            <Field label="Name" hint="Unique in this session. Empty: a new one.">
              <input class="mono" name="name" maxLength={60} autoCapitalize="off" spellcheck={false} />
            </Field>
            <Field label="Environment" hint="One NAME=value in each line.">
              <textarea class="mono" name="env" rows={3} spellcheck={false} autoCapitalize="off" />
            </Field>
            <Field label="Inherited environment">
              <select name="inherit">
                <option value="all">That of the server, without secrets</option>
                <option value="core">Only what most programs need</option>
                <option value="none">Nothing</option>
              </select>
            </Field>
            <Field label="Time limit in seconds" hint="Empty: none.">
              <input name="timeout" inputMode="decimal" />
            </Field>
            <Field label="Restart">
              <select
                name="restart"
                value={policy.value}
                onChange={({ currentTarget }) => {
                  policy.value = currentTarget.value
                }}
              >
                <option value="never">Never</option>
                <option value="onFailure">When it fails</option>
                <option value="always">Whenever it exits</option>
              </select>
            </Field>
            {policy.value !== "never" && (
              <Field label="At most so many restarts a minute">
                <input name="maxRestarts" inputMode="numeric" defaultValue="5" />
              </Field>
            )}
            <label class="check">
              <input type="checkbox" name="record" /> Record its output from the start
            </label>
          </div>
        </details>
        <p class="error" role="alert">
          {message.value}
        </p>
        <div class="actions">
          <button type="submit" class="primary" disabled={isBusy.value}>
            Start
          </button>
        </div>
      </form>
    </main>
  )
}
