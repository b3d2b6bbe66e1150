/**
 * This package itself: where it is, and its version.
 *
 * @since 0.1.0
 */
import { existsSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

/** The nearest folder, going up, that has a package.json. */
const rootOf = (folder: string): string => (existsSync(join(folder, "package.json")) ? folder : rootOf(dirname(folder)))

/** The root of the package: sources, modules in dist/ and the bundled command are at different depths below it. */
export const root = rootOf(dirname(fileURLToPath(import.meta.url)))

/** The version of this package. */
export const version = (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string })
  .version
