/**
 * The ids of sessions in a fleet: `HOST.EPOCH.INNER.SEAL`. They name the host and its epoch, so that a session is found
 * without the database. The seal binds them to their subject: nobody else's id opens a session, and none can be made up.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { createHmac, timingSafeEqual } from "node:crypto"

/** A session on a host. */
export interface Place {
  readonly no: number
  readonly epoch: number
  /** The id that the host has given. */
  readonly inner: string
}

/** Makes and opens ids. */
export interface SessionIds {
  readonly make: (place: Place, subject: string) => string
  /** The place of a session; undefined if the id is not one of this fleet, or of another subject. */
  readonly open: (id: string, subject: string) => Place | undefined
}

/** The longest id that is looked at, in characters. */
const maxLength = 4096

/** The length of a seal, in bytes. */
const sealBytes = 18

const pattern = /^([1-9]\d{0,8})\.([1-9]\d{0,8})\.(.+)\.([A-Za-z0-9_-]{24})$/s

/** The ids of the fleet with this secret. */
export const make = (secret: string): SessionIds => {
  const seal = ({ no, epoch, inner }: Place, subject: string): Buffer =>
    createHmac("sha256", secret)
      .update(JSON.stringify(["exec-server session v1", no, epoch, inner, subject]))
      .digest()
      .subarray(0, sealBytes)
  return {
    make: (place, subject) => `${place.no}.${place.epoch}.${place.inner}.${seal(place, subject).toString("base64url")}`,
    open: (id, subject) => {
      const [, no, epoch, inner, given] = (id.length <= maxLength ? pattern.exec(id) : null) ?? []
      if (no === undefined || epoch === undefined || inner === undefined || given === undefined) return undefined
      const place = { no: Number(no), epoch: Number(epoch), inner }
      return timingSafeEqual(seal(place, subject), Buffer.from(given, "base64url")) ? place : undefined
    }
  }
}
