/**
 * Keys that the keyboards of phones lack.
 *
 * @since 0.1.0
 */
import type { Signal } from "@preact/signals"
import { utf8 } from "../Bytes.js"

const keys: ReadonlyArray<readonly [label: string, name: string, sequence: string]> = [
  ["Esc", "Escape", "\u001b"],
  ["Tab", "Tab", "\t"],
  ["←", "Left", "\u001b[D"],
  ["↓", "Down", "\u001b[B"],
  ["↑", "Up", "\u001b[A"],
  ["→", "Right", "\u001b[C"],
  ["^C", "Control C", "\u0003"],
  ["^D", "Control D", "\u0004"],
  ["|", "Pipe", "|"],
  ["/", "Slash", "/"],
  ["~", "Tilde", "~"],
  ["-", "Minus", "-"],
  ["Home", "Home", "\u001b[H"],
  ["End", "End", "\u001b[F"],
  ["PgUp", "Page up", "\u001b[5~"],
  ["PgDn", "Page down", "\u001b[6~"]
]

/** Those that programs can ask for in another form. */
const cursor = new Set(["A", "B", "C", "D", "H", "F"].map((final) => `\u001b[${final}`))

/** The row. Ctrl and Alt hold for the next key. */
export const KeyRow = (props: {
  readonly held: Signal<{ readonly ctrl: boolean; readonly alt: boolean }>
  readonly onKey: (bytes: Uint8Array) => void
  /** Whether the program wants cursor keys of the other kind. */
  readonly isApplication: () => boolean
}) => {
  const { held, onKey, isApplication } = props
  const press = (sequence: string) => {
    const isCursor = cursor.has(sequence)
    onKey(utf8(isCursor && isApplication() ? sequence.replace("[", "O") : sequence))
  }
  return (
    <div class="keys" role="toolbar" aria-label="Keys">
      {(["ctrl", "alt"] as const).map((key) => (
        <button
          type="button"
          key={key}
          aria-pressed={held.value[key]}
          onPointerDown={(event) => event.preventDefault()}
          onClick={() => {
            held.value = { ...held.value, [key]: !held.value[key] }
          }}
        >
          {key === "ctrl" ? "Ctrl" : "Alt"}
        </button>
      ))}
      {keys.map(([label, name, sequence]) => (
        <button
          type="button"
          key={name}
          aria-label={/\w/.test(label) ? undefined : name}
          // The keyboard stays as it is.
          onPointerDown={(event) => event.preventDefault()}
          onClick={() => press(sequence)}
        >
          {label}
        </button>
      ))}
    </div>
  )
}
