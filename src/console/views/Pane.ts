/**
 * What the two kinds of output have in common: a feed, and input.
 *
 * @since 0.1.0
 */
import { AttachedFeed } from "../AttachedFeed.js"
import type { Display, Feed } from "../Feed.js"
import { Input } from "../Input.js"
import { tell } from "../Notices.js"
import { OwnFeed } from "../OwnFeed.js"
import { connection, grant, outputs } from "../Page.js"

/** The process that a pane shows. */
export interface Shown {
  readonly session: string
  readonly processId: string
  readonly tty: boolean
  readonly running: boolean
}

/** What a pane is given. */
export interface PaneProps {
  readonly process: Shown
  /** Whether the token lets one type. */
  readonly mayWrite: boolean
  /** Is given the feed as soon as there is one. */
  readonly onFeed: (feed: Feed) => void
}

/** An open feed with its input. */
export interface Opened {
  readonly feed: Feed
  readonly input: Input
  readonly closeInput: () => Promise<unknown>
  readonly close: () => void
}

/** Opens the feed of a process for a display. */
export const openFeed = ({ process, onFeed }: PaneProps, display: Display): Opened => {
  const { session, processId, tty } = process
  const isOwn = session === grant.value?.session
  const feed = isOwn
    ? new OwnFeed({ connection, outputs, session, processId, tty, display })
    : new AttachedFeed({ connection, session, processId, display })
  const about = isOwn ? { processId } : { session, processId }
  const input = new Input(connection, about, (why) => tell(why, true))
  onFeed(feed)
  return {
    feed,
    input,
    closeInput: () => connection.call("process/closeStdin", about),
    close: () => {
      feed.close()
      input.close()
    }
  }
}
