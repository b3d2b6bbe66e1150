/**
 * The location and version of this package.
 *
 * @since 0.1.0
 */
import { existsSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

/** The nearest ancestor folder with a package.json. */
const rootOf = (folder: string): string => (existsSync(join(folder, "package.json")) ? folder : rootOf(dirname(folder)))

/** The root of the package. Sources, modules in dist/ and the bundled command lie at different depths below it. */
export const root = rootOf(dirname(fileURLToPath(import.meta.url)))

/** The version of this package. */
export const version = (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string })
  .version
