/** Who still waits for an answer: each message gets exactly one, and nobody gets one who did not ask. */
import { type Expectation, idOfAnswer } from "./Oracle.js"

interface Doubtful {
  readonly name: string
  readonly ids: ReadonlyArray<string>
}

/** How many answers there were, of all connections. */
export interface Tally {
  results: number
  errors: number
}

/** The accounts of one connection. */
export class Ledger {
  private readonly certain = new Map<string, Array<string>>()
  private readonly doubtful: Array<Doubtful> = []
  /** Answers with id -1 that may come and need not. */
  private optional = 0
  /** Messages that wait. */
  waiting = 0
  /** What was wrong with an answer. */
  fault: string | undefined

  constructor(private readonly tally: Tally) {}

  /** A message was sent; `name` says which one. */
  sent(name: string, expectation: Expectation): void {
    if (expectation._tag === "Unsure") this.optional++
    if (expectation._tag !== "Answer") return
    this.waiting++
    const { ids } = expectation
    const [id = ""] = ids
    if (ids.length > 1) this.doubtful.push({ name, ids })
    else this.certain.set(id, [...(this.certain.get(id) ?? []), name])
  }

  /** An answer has come. */
  answered(text: string): void {
    this.tally[text.startsWith('{"error":') ? "errors" : "results"]++
    const id = idOfAnswer(text)
    if (id === undefined) {
      this.blame(`neither an answer nor a notification: ${text}`)
      return
    }
    const names = this.certain.get(id)
    if (names !== undefined) {
      names.shift()
      if (names.length === 0) this.certain.delete(id)
      this.waiting--
      return
    }
    const index = this.doubtful.findIndex(({ ids }) => ids.includes(id))
    if (index !== -1) {
      this.doubtful.splice(index, 1)
      this.waiting--
    } else if (id === "-1" && this.optional > 0) this.optional--
    else this.blame(`an answer that nobody waits for: ${text}`)
  }

  /** The messages that wait, by name. */
  names(): ReadonlyArray<string> {
    return [...Array.from(this.certain.values()).flat(), ...this.doubtful.map(({ name }) => name)]
  }

  private blame(what: string): void {
    this.fault ??= what.slice(0, 2000)
  }
}
