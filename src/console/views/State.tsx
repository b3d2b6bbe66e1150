/**
 * The state of a process in a word.
 *
 * @since 0.1.0
 */
import type { ProcessInfo } from "../Wire.js"

type Standing = Pick<ProcessInfo, "running" | "exitCode"> & { readonly signal?: string | null | undefined }

/** The word, and whether it is good news. */
export const standing = ({ running, exitCode, signal }: Standing): { readonly word: string; readonly kind: string } => {
  if (running) return { word: "running", kind: "running" }
  if (signal !== null && signal !== undefined) return { word: signal, kind: "failed" }
  if (exitCode === null) return { word: "starting", kind: "running" }
  return exitCode === 0 ? { word: "exited 0", kind: "done" } : { word: `exited ${exitCode}`, kind: "failed" }
}

/** The state, as a badge. */
export const State = (props: { readonly of: Standing }) => {
  const { word, kind } = standing(props.of)
  return <span class={`badge ${kind}`}>{word}</span>
}
