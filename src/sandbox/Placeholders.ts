/**
 * Empty directories that hold a place where nothing may appear, for as long as somebody is confined: without something
 * there, nothing can be mounted there.
 *
 * @since 0.1.0
 */
import { mkdirSync, rmdirSync } from "node:fs"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as OsError from "../protocol/OsError.js"
import { SpawnError } from "../spawn/Child.js"
import { Guard } from "../spawn/Guard.js"

/** Holds places, and gives them back. */
export interface Shape {
  /**
   * Makes the directories, or shares those that others of this server hold; gives what removes them. Throws `SpawnError`.
   * Of `mounted` those are shared that are held: they were taken for what is there.
   */
  readonly hold: (paths: ReadonlyArray<string>, mounted: ReadonlyArray<string>) => () => void
}

const make = ({ addFolder, removeFolder }: Guard["Type"]): Shape => {
  const holders = new Map<string, number>()

  const take = (path: string) => {
    const others = holders.get(path) ?? 0
    if (others === 0) {
      try {
        mkdirSync(path, 0o555)
      } catch (error) {
        throw new SpawnError({ message: `cannot keep ${path} from appearing: ${OsError.describe(error)}` })
      }
      addFolder(path)
    }
    holders.set(path, others + 1)
  }

  const give = (path: string) => {
    const others = (holders.get(path) ?? 1) - 1
    if (others > 0) return void holders.set(path, others)
    holders.delete(path)
    removeFolder(path)
    try {
      rmdirSync(path)
    } catch {
      // Somebody outside has removed it, or put something into it: it is theirs now.
    }
  }

  return {
    hold: (paths, mounted) => {
      const taken: Array<string> = []
      const release = () => {
        for (const path of taken.splice(0).reverse()) give(path)
      }
      try {
        for (const path of [...paths, ...mounted.filter((path) => holders.has(path))]) {
          take(path)
          taken.push(path)
        }
        return release
      } catch (error) {
        release()
        throw error
      }
    }
  }
}

/** The places that a server holds. */
export class Placeholders extends Context.Tag("exec-server/Placeholders")<Placeholders, Shape>() {
  /** Whatever is still held when the server is killed, the guard removes. */
  static readonly layer: Layer.Layer<Placeholders, never, Guard> = Layer.effect(Placeholders, Effect.map(Guard, make))
}
