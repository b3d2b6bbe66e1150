/**
 * This package itself: where it is, and its version.
 *
 * @since 0.1.0
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

/**
 * The root of the package.
 *
 * Sources, modules in dist/ and the bundled command have this module, or what became of it, one folder below the root.
 */
export const root = fileURLToPath(new URL("..", import.meta.url))

/** The version of this package. */
export const version = (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string })
  .version
