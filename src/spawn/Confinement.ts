/**
 * The restrictions of a confined program, which a launcher enforces.
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

/** The mounts and the network of a confined program. */
export interface Confinement {
  /** From the outermost path to the innermost; undefined: all files as they are. */
  readonly mounts: ReadonlyArray<Mount> | undefined
  /** Paths where there is nothing, and nothing may appear: they are directories while somebody is confined. */
  readonly placeholders: ReadonlyArray<string>
  /** Whether it gets a network namespace of its own. */
  readonly isolated: boolean
}
