/**
 * Turns the rules of a sandbox into mounts, in mount order.
 *
 * The mount namespace enforces the rules: files that are not allowed are not mounted. So everything is decided before
 * the program starts. Links are resolved here; `Mounting` then opens each path and compares, so that replacing a folder
 * by a link between resolution and mount (a TOCTOU race) is detected.
 *
 * @since 0.1.0
 */
import { accessSync, constants, lstatSync, readlinkSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import * as Either from "effect/Either"
import { NotAllowed } from "../protocol/Failure.js"
import * as OsError from "../protocol/OsError.js"
import type { Confinement, Mount } from "../spawn/Confinement.js"
import * as GitMetadata from "./GitMetadata.js"
import type { Access, Policy, Rule } from "./SandboxPolicy.js"

/** A path with its links resolved. */
interface ResolvedPath {
  readonly path: string
  readonly kind: "directory" | "file" | "missing"
  /** The links that were followed. */
  readonly links: ReadonlyArray<{ readonly path: string; readonly target: string }>
  /** Whether the parent directory exists; of interest if the path is missing. */
  readonly hasParent: boolean
}

/**
 * In writable folders these names are read-only, and cannot be created if missing: they decide what other programs
 * execute (the original's list).
 */
const protectedNames = [".git", ".codex", ".agents", ".aws"]

/** The maximum number of mounts of one confinement: each costs time at every start, and many of them a descriptor. */
const maxMounts = 1600

/** The most components of a path: examining a path takes time that grows with the square of it. */
const maxDepth = 256

/** The most links in one path, as in Linux. */
const maxLinks = 40

/** Resolves the links of a path. Throws the system's errors, except for a missing path. */
const resolveLinks = (path: string): ResolvedPath => {
  const links: Array<ResolvedPath["links"][number]> = []
  let names = path.split("/").filter((name) => name !== "")
  let at = "/"
  let kind: ResolvedPath["kind"] = "directory"
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    const next = resolve(at, name)
    const found = name === ".." ? undefined : lstatSync(next, { throwIfNoEntry: false })
    if (name === "..") at = next
    else if (found === undefined) {
      return { path: join(next, ...names), kind: "missing", links, hasParent: names.length === 0 }
    } else if (found.isSymbolicLink()) {
      if (links.length === maxLinks) throw Object.assign(new Error("too many links"), { code: "ELOOP" })
      const target = readlinkSync(next)
      links.push({ path: next, target })
      names = [...target.split("/").filter((part) => part !== "" && part !== "."), ...names]
      if (target.startsWith("/")) at = "/"
    } else {
      at = next
      kind = found.isDirectory() ? "directory" : "file"
      // The system's own error for a path through a file.
      if (kind === "file" && names.length > 0) throw Object.assign(new Error("not a directory"), { code: "ENOTDIR" })
    }
  }
  return { path: at, kind, links, hasParent: true }
}

/** Whether a path is a folder or below it. */
export const isWithin = (path: string, folder: string): boolean =>
  folder === "/" || path === folder || path.startsWith(`${folder}/`)

/** A rule with its path resolved. */
interface Place extends ResolvedPath {
  readonly access: Access
  readonly entry: string
}

/** Of several rules for one path, `none` wins over `write`, and `write` over `read`. */
const precedence = { read: 0, write: 1, none: 2 }

const merge = (places: ReadonlyArray<Place>): Map<string, Place> => {
  const merged = new Map<string, Place>()
  for (const place of places) {
    const other = merged.get(place.path)
    if (other === undefined || precedence[place.access] > precedence[other.access]) {
      merged.set(place.path, { ...place, links: [...place.links, ...(other?.links ?? [])] })
    }
  }
  return merged
}

const compare = (one: string, other: string) => (one < other ? -1 : one > other ? 1 : 0)

/** Sorts parents before their children. */
const outermostFirst = <A extends { readonly path: string }>(all: Iterable<A>): Array<A> =>
  Array.from(all).sort((one, other) => compare(one.path.replaceAll("/", "\0"), other.path.replaceAll("/", "\0")))

/** The access a path inherits: the innermost enclosing rule and its path. */
const inherited = (
  path: string,
  places: ReadonlyMap<string, Place>
): { readonly access: Access; readonly path: string } => {
  for (let at = path; at !== "/"; ) {
    at = dirname(at)
    const place = places.get(at)
    if (place !== undefined && place.kind !== "missing") return place
  }
  return { access: "none", path: "/" }
}

/** The plan depends on a path that was not probed and whose file system may hang. */
export class Unprobed extends Error {
  constructor(readonly path: string) {
    super(`${path} was not probed`)
  }
}

class Unenforceable extends Error {}

const refuse = (entry: string, why: string): never => {
  throw new Unenforceable(`the sandbox entry ${entry} cannot be enforced: ${why}`)
}

const locate = (rule: Rule, resolvePath: typeof resolveLinks): Place => {
  try {
    return { ...resolvePath(rule.path), access: rule.access, entry: rule.entry }
  } catch (error) {
    if (error instanceof Unprobed) throw error
    return refuse(rule.entry, OsError.describe(error))
  }
}

/**
 * Refuses rules that cannot be enforced: they hide what every program needs, or depend on a link that another rule lets
 * a program change.
 */
const checkEnforceable = (place: Place, places: ReadonlyMap<string, Place>, writableAround: WritableAround) => {
  const { path, access, entry, links } = place
  if (path === "/dev" || isWithin(path, "/proc")) {
    if (access !== "read") refuse(entry, "every sandboxed program has its own /dev and /proc")
  }
  if (path === "/" && access === "none") refuse(entry, "without `/` a program has no files at all")
  for (const link of links) {
    const owner = { ...inherited(link.path, places) }
    if (owner.access === "write" && owner.path !== "/") {
      refuse(
        entry,
        `its path contains the link ${link.path}, which a program with write access to ${owner.path} can change`
      )
    }
    const folder = writableAround(link.path)
    if (folder !== undefined) {
      refuse(
        entry,
        `its path contains the link ${link.path}, which a running sandbox with write access to ${folder} can change`
      )
    }
  }
}

/** Mounts the writable directories around a path as well, up to the next mount: mount points cannot be renamed. */
const pinAround = (path: string, mounts: Map<string, Mount>) => {
  for (let at = dirname(path); at !== "/" && !mounts.has(at); at = dirname(at)) {
    mounts.set(at, { _tag: "Bind", path: at, writable: true })
  }
}

const mountsOf = (places: ReadonlyMap<string, Place>) => {
  const mounts = new Map<string, Mount>()
  const placeholders: Array<string> = []
  const all = outermostFirst(places.values())
  for (const { path, access, entry, kind, links, hasParent } of all) {
    const outer = inherited(path, places)
    // Every sandbox mounts its own.
    if (path === "/dev" || isWithin(path, "/proc")) continue
    for (const { path, target } of links) {
      if (inherited(path, places).access === "none") mounts.set(path, { _tag: "Link", path, target })
    }
    if (access === outer.access) continue
    if (kind === "missing") {
      // A missing path needs a mount only to keep programs from creating it.
      if (access === "write" || (access === "read" && outer.access !== "write")) continue
      if (!hasParent) refuse(entry, "neither it nor its parent directory exists yet")
      placeholders.push(path)
    }
    if (outer.access === "write") pinAround(path, mounts)
    if (access === "none" || kind === "missing") {
      const traversable =
        access === "read" || all.some((other) => other.access !== "none" && isWithin(other.path, path))
      mounts.set(path, { _tag: "Hide", path, kind: kind === "file" ? kind : "directory", traversable })
    } else mounts.set(path, { _tag: "Bind", path, writable: access === "write" })
  }
  return { mounts: outermostFirst(mounts.values()), placeholders }
}

/** Hides the server's own files wherever the rules would show them. */
const hiddenPlaces = (
  files: ReadonlyArray<string>,
  places: ReadonlyMap<string, Place>,
  resolvePath: typeof resolveLinks
): ReadonlyArray<Place> =>
  files
    .map((path): Place => ({ ...locate({ path, access: "none", entry: `\`${path}\`` }, resolvePath), links: [] }))
    .filter(({ path, kind }) => kind === "file" && (places.get(path) ?? inherited(path, places)).access !== "none")

/** The rules of a policy without file rules. */
const everything: ReadonlyArray<Rule> = [{ path: "/", access: "write", entry: "`:root` (write)" }]

/** Finds the folder around a path that a running sandbox can write, if any. */
type WritableAround = (path: string) => string | undefined

/** Whether a program may be able to create something in a folder. The owner can always make it writable. */
const isCreatable = (folder: string): boolean => {
  try {
    accessSync(folder, constants.W_OK)
    return true
  } catch (error) {
    const owner = lstatSync(folder, { throwIfNoEntry: false })?.uid
    return OsError.codeOf(error) !== "EROFS" && owner === process.geteuid?.()
  }
}

/** A place that is read-only because of a writable folder around it, whatever its entries say. */
const protect = (path: string, resolvePath: typeof resolveLinks): Place =>
  locate({ path, access: "read", entry: `\`${path}\` (protected)` }, resolvePath)

/** The paths of a repository besides its `.git`; refuses a repository whose paths cannot be determined. */
const metadataOf = (dotGit: Place, probe: (path: string) => void): ReadonlyArray<string> => {
  try {
    return GitMetadata.pathsOf(dotGit.path, probe)
  } catch (error) {
    if (error instanceof Unprobed) throw error
    return refuse(`\`${dotGit.path}\` (protected)`, OsError.describe(error))
  }
}

/** The protected places of a writable folder, including the directories a `.git` file points to. */
const protectedIn = (
  folder: string,
  named: ReadonlyMap<string, Place>,
  resolvePath: typeof resolveLinks,
  probe: (path: string) => void
): ReadonlyArray<Place> =>
  protectedNames.flatMap((name) => {
    const given = named.get(join(folder, name))
    if (given?.access === "write") return []
    const place = given ?? protect(join(folder, name), resolvePath)
    if (place.kind === "missing") return place.links.length > 0 || isCreatable(folder) ? [place] : []
    if (name !== ".git") return [place]
    const metadata = metadataOf(place, probe).map((path) => protect(path, resolvePath))
    const around = metadata.find(({ path }) => isWithin(folder, path))
    if (around !== undefined) refuse(place.entry, `it leads to ${around.path}, which contains the writable ${folder}`)
    return [place, ...metadata]
  })

/** The protected places of all writable folders, except those that an entry names or that are not writable anyway. */
const impliedPlaces = (
  named: ReadonlyMap<string, Place>,
  resolvePath: typeof resolveLinks,
  probe: (path: string) => void
): ReadonlyArray<Place> => {
  const found = Array.from(named.values())
    .filter(({ access, kind, path }) => access === "write" && kind === "directory" && path !== "/")
    .flatMap(({ path }) => protectedIn(path, named, resolvePath, probe))
  const implied = found.filter(({ path }) => !named.has(path) && inherited(path, named).access === "write")
  const all = new Map([...named, ...implied.map((place) => [place.path, place] as const)])
  for (const place of found) checkEnforceable(place, all, () => undefined)
  return implied
}

/** The same places, with writable ones made read-only. */
const forReading = (places: ReadonlyMap<string, Place>): ReadonlyMap<string, Place> =>
  new Map(
    Array.from(places, ([path, place]) => [
      path,
      place.access === "write" ? { ...place, access: "read" as const } : place
    ])
  )

/** The state of the server that a plan depends on. */
export interface Surroundings {
  /** Links in folders that a running sandbox can write are not trusted, whatever the policy allows. */
  readonly writableAround?: WritableAround
  /** The server's own files, which are hidden. */
  readonly serverFiles?: ReadonlyArray<string>
  /** Whether a folder is a placeholder, which only keeps others from creating it. */
  readonly isPlaceholder?: (path: string) => boolean
  /** Whether the file system of a path may hang. If so, planning fails with `Unprobed`. */
  readonly mayHang?: (path: string) => boolean
}

/**
 * The confinement that enforces a policy. Fails with `NotAllowed` if that is impossible. If `readOnly`, for requests
 * that do not write, nothing is writable, and no placeholders are needed.
 */
export const plan = (
  { files, isolated }: Policy,
  {
    writableAround = () => undefined,
    serverFiles = [],
    isPlaceholder = () => false,
    mayHang = () => false
  }: Surroundings = {},
  readOnly = false
): Either.Either<Confinement, NotAllowed> => {
  const probe = (path: string) => {
    if (mayHang(path)) throw new Unprobed(path)
  }
  const resolvePath = (path: string): ResolvedPath => {
    probe(path)
    const found = resolveLinks(path)
    return found.kind === "directory" && isPlaceholder(found.path) ? { ...found, kind: "missing" } : found
  }
  if (files === undefined && serverFiles.length === 0)
    return Either.right({ mounts: undefined, placeholders: [], isolated })
  return Either.try({
    try: () => {
      for (const { path, entry } of files ?? []) {
        const depth = path.split("/").length - 1
        if (depth > maxDepth) refuse(entry, `it has ${depth} components; the limit is ${maxDepth}`)
      }
      const named = merge((files ?? everything).map((rule) => locate(rule, resolvePath)))
      for (const place of named.values()) checkEnforceable(place, named, writableAround)
      const places = new Map([
        ...named,
        ...impliedPlaces(named, resolvePath, probe).map((place) => [place.path, place] as const)
      ])
      for (const hidden of hiddenPlaces(serverFiles, places, resolvePath)) places.set(hidden.path, hidden)
      const { mounts, placeholders } = mountsOf(readOnly ? forReading(places) : places)
      if (mounts.length > maxMounts) throw new Unenforceable(`the sandbox needs more than ${maxMounts} mounts`)
      return { mounts, placeholders, isolated }
    },
    catch: (error) => {
      if (error instanceof Unenforceable) return new NotAllowed({ message: error.message })
      throw error
    }
  })
}
