/**
 * The restrictions of a confined program, which a launcher enforces.
 *
 * @since 0.1.0
 */

/** One mount, at a path without links. */
export type Mount =
  /** Shows the files at the path, read-only or writable. */
  | { readonly _tag: "Bind"; readonly path: string; readonly writable: boolean }
  /** Shows nothing at the path. `traversable` if a path below it is shown. */
  | { readonly _tag: "Hide"; readonly path: string; readonly kind: "directory" | "file"; readonly traversable: boolean }
  /** A link that occurs in the rules' paths. */
  | { readonly _tag: "Link"; readonly path: string; readonly target: string }

/** The mounts and the network of a confined program. */
export interface Confinement {
  /** From the outermost path to the innermost; undefined leaves all files visible. */
  readonly mounts?: ReadonlyArray<Mount> | undefined
  /** Paths without a file, where none may appear: directories are kept there while anything is confined. */
  readonly placeholders: ReadonlyArray<string>
  /** Whether it gets a network namespace of its own. */
  readonly isolated: boolean
}
