/**
 * What a confined program may see and reach: what a launcher is told to enforce.
 *
 * @since 0.1.0
 */

/** One mount, at a path that leads through no link. */
export type Mount =
  /** What is there, to be read or also written. */
  | { readonly _tag: "Bind"; readonly path: string; readonly writable: boolean }
  /** Instead of what is there, nothing; `traversable` if something below it is to be seen. */
  | { readonly _tag: "Hide"; readonly path: string; readonly kind: "directory" | "file"; readonly traversable: boolean }
  /** A link that the rules' paths lead through. */
  | { readonly _tag: "Link"; readonly path: string; readonly target: string }

/** What a confined program may see and reach. */
export interface Confinement {
  /** From the outermost path to the innermost; undefined: all files as they are. */
  readonly mounts: ReadonlyArray<Mount> | undefined
  /** Paths where there is nothing, and nothing may appear: they are directories while somebody is confined. */
  readonly placeholders: ReadonlyArray<string>
  /** Whether the network is one of its own. */
  readonly isolated: boolean
}
