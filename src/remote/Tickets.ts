/**
 * One-time credentials in URLs: each opens one thing of one environment, once, within a minute.
 *
 * @since 0.1.0
 */
import { createHash, randomBytes } from "node:crypto"

/** How long a ticket is valid, in milliseconds. */
const ticketMs = 60000

/** The most unused tickets. Beyond it the oldest is dropped. */
const maxTickets = 4096

interface Ticket<A> {
  readonly environmentId: string
  readonly until: number
  readonly value: A
}

const keyOf = (ticket: string) => createHash("sha256").update(ticket).digest("hex")

/** Tickets of one kind, each for a value. */
export class Tickets<A> {
  private readonly tickets = new Map<string, Ticket<A>>()

  /** `maxPerEnvironment`: the most unused tickets of one environment, so that it cannot use up those of others. */
  constructor(private readonly maxPerEnvironment: number) {}

  issue(environmentId: string, value: A): string {
    const { tickets, maxPerEnvironment } = this
    const own = Array.from(tickets).flatMap(([key, ticket]) => (ticket.environmentId === environmentId ? [key] : []))
    const [oldest] = own.length >= maxPerEnvironment ? own : tickets.size >= maxTickets ? tickets.keys() : []
    if (oldest !== undefined) tickets.delete(oldest)
    const ticket = randomBytes(32).toString("base64url")
    tickets.set(keyOf(ticket), { environmentId, value, until: performance.now() + ticketMs })
    return ticket
  }

  /** The value of a ticket, which is used up. Undefined if it is unknown, used or too old. */
  redeem(environmentId: string, ticket: string | null): A | undefined {
    const key = keyOf(ticket ?? "")
    const found = this.tickets.get(key)
    if (found === undefined || found.environmentId !== environmentId) return undefined
    this.tickets.delete(key)
    return performance.now() < found.until ? found.value : undefined
  }
}
