/**
 * What the module that runs first in a replaced process leaves for the version it loads. Modules of different versions
 * meet here: members may be added, and none changes its meaning.
 *
 * @since 0.1.0
 */

/** The variable that names the descriptors. Only the next image of this process gets it. */
export const variable = "EXEC_SERVER_HANDOVER"

/** The first argument of a version that is asked whether it can take over; the server's arguments follow. */
export const checkFlag = "--upgrade-check"

/** What a version continues. */
export interface Token {
  /** The descriptor of the state. */
  readonly image: number
  /** The descriptor of the secrets. */
  readonly secret: number
  /** Whether the version is only asked whether it could take over. */
  readonly isCheck: boolean
  /** Why the version that was to take over has failed; undefined if this is that one. */
  readonly failure: string | undefined
  /** Reports that this version has taken over. Before, its failure brings the version before back. */
  readonly disarm: () => void
  /** Brings the version before back at once, unless that is this one. Absent if it cannot do that so early. */
  readonly giveUp?: (reason: string) => void
}

const key = Symbol.for("exec-server/handover")

const place = globalThis as { [key]?: Token }

/** Leaves it for the version. */
export const leave = (token: Token): void => {
  place[key] = token
}

/** What was left; undefined at an ordinary start. */
export const find = (): Token | undefined => place[key]
