/**
 * Notifications of the directory's database. They come late or not at all when a connection is lost, so that whoever
 * listens has a timer as well.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"

/** A source of notifications. */
export interface Shape {
  /** Calls back for each notification until the returned function is called. */
  readonly onNotice: (callback: () => void) => () => void
}

/** The notifications of the directory's database. */
export class DirectoryNotices extends Context.Tag("exec-server/DirectoryNotices")<DirectoryNotices, Shape>() {}

/** A source, and the function that notifies its listeners. */
export const make = (): Shape & { readonly notify: () => void } => {
  const callbacks = new Set<() => void>()
  return {
    onNotice: (callback) => {
      callbacks.add(callback)
      return () => void callbacks.delete(callback)
    },
    notify: () => {
      for (const callback of Array.from(callbacks)) callback()
    }
  }
}
