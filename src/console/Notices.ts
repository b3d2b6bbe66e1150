/**
 * What a page tells and asks its user, and the time that it shows.
 *
 * @since 0.1.0
 */
import { signal } from "@preact/signals"
import { textOf } from "./Channel.js"

/** The time, by the second. */
export const now = signal(Date.now())
setInterval(() => {
  if (!document.hidden) now.value = Date.now()
}, 1000)

/** A short message, for as long as it takes to read it. */
export const notice = signal<{ readonly text: string; readonly isError: boolean } | undefined>(undefined)
let clearing: ReturnType<typeof setTimeout> | undefined

/** Tells something for a moment. */
export const tell = (text: string, isError = false): void => {
  clearTimeout(clearing)
  notice.value = { text, isError }
  clearing = setTimeout(() => {
    notice.value = undefined
  }, 6000)
}

/** Does something, and tells if it fails. Gives whether it did not. */
export const attempt = async (action: () => Promise<unknown>): Promise<boolean> => {
  try {
    await action()
    return true
  } catch (error) {
    tell(textOf(error), true)
    return false
  }
}

/** A question, and what is done with the answer. */
export interface Question {
  readonly title: string
  readonly text: string
  /** Foreign text that it is about, shown as it is. */
  readonly detail?: string
  readonly yes: string
  readonly isDangerous?: boolean
  readonly answer: (yes: boolean) => void
}

/** The question that is being asked. */
export const question = signal<Question | undefined>(undefined)

/** Asks before something is done. */
export const ask = (about: Omit<Question, "answer">): Promise<boolean> => {
  question.value?.answer(false)
  return new Promise((resolve) => {
    question.value = {
      ...about,
      answer: (yes) => {
        question.value = undefined
        resolve(yes)
      }
    }
  })
}
