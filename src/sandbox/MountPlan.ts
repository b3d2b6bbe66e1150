/**
 * What a confined program sees of the file system: rules turned into mounts, in the order they are made.
 *
 * Nothing is checked when a program uses a path: what it may not reach is not there. So all that matters happens before
 * it starts. Paths are taken to where they really lead, and what is mounted is opened then and compared, so that nobody
 * can exchange a folder for a link between the look and the mount.
 *
 * @since 0.1.0
 */
import { lstatSync, readlinkSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import * as Either from "effect/Either"
import { NotAllowed } from "../protocol/Failure.js"
import * as OsError from "../protocol/OsError.js"
import type { Confinement, Mount } from "../spawn/Confinement.js"
import type { Access, Policy, Rule } from "./SandboxPolicy.js"

/** Where a path leads. */
export interface Found {
  readonly path: string
  readonly kind: "directory" | "file" | "missing"
  /** The links on the way, as they lie and what they say. */
  readonly links: ReadonlyArray<{ readonly path: string; readonly target: string }>
  /** Of what is missing, whether the directory it would be in is there. */
  readonly hasParent: boolean
}

/** What nobody should change who may write beside it: it decides what other programs run (the original's list). */
const protectedNames = [".git", ".codex", ".agents", ".aws"]

/** The most mounts of one confinement: each takes a descriptor, and time at every start. */
const maxMounts = 400

/** The system's own bound on the links of one path. */
const maxLinks = 40

/** Follows a path; throws what the system says, but for what is missing. */
export const follow = (path: string): Found => {
  const links: Array<Found["links"][number]> = []
  let names = path.split("/").filter((name) => name !== "")
  let at = "/"
  let kind: Found["kind"] = "directory"
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
      // The system's own answer to a path through something else.
      if (kind === "file" && names.length > 0) throw Object.assign(new Error("not a directory"), { code: "ENOTDIR" })
    }
  }
  return { path: at, kind, links, hasParent: true }
}

/** Whether a path is another one, or below it. */
export const isWithin = (path: string, folder: string): boolean =>
  folder === "/" || path === folder || path.startsWith(`${folder}/`)

/** A rule where it really holds. */
interface Place extends Found {
  readonly access: Access
  readonly entry: string
}

/** Of several rules for one path: nothing that was forbidden is allowed, and otherwise all that was allowed is. */
const strength = { read: 0, write: 1, none: 2 }

const merge = (places: ReadonlyArray<Place>): Map<string, Place> => {
  const merged = new Map<string, Place>()
  for (const place of places) {
    const other = merged.get(place.path)
    if (other === undefined || strength[place.access] > strength[other.access]) {
      merged.set(place.path, { ...place, links: [...place.links, ...(other?.links ?? [])] })
    }
  }
  return merged
}

const compare = (one: string, other: string) => (one < other ? -1 : one > other ? 1 : 0)

/** Parents come before what is in them. */
const outermostFirst = <A extends { readonly path: string }>(all: Iterable<A>): Array<A> =>
  Array.from(all).sort((one, other) => compare(one.path.replaceAll("/", "\0"), other.path.replaceAll("/", "\0")))

/** The access that the rules around a path leave it, and whose rule that is. */
const around = (
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

class Unenforceable extends Error {}

const refuse = (entry: string, why: string): never => {
  throw new Unenforceable(`the sandbox entry ${entry} cannot be enforced: ${why}`)
}

const locate = (rule: Rule, look: typeof follow): Place => {
  try {
    return { ...look(rule.path), access: rule.access, entry: rule.entry }
  } catch (error) {
    return refuse(rule.entry, OsError.describe(error))
  }
}

/** Rules that nobody can keep: another one lets its reader move what they name, or they name what every program needs. */
const check = (place: Place, places: ReadonlyMap<string, Place>, writable: ReadonlyArray<string>) => {
  const { path, access, entry, links } = place
  if (path === "/dev" || isWithin(path, "/proc")) {
    if (access !== "read") refuse(entry, "every program gets devices and a process table of its own")
  }
  if (path === "/" && access === "none") refuse(entry, "without it there is nothing to see at all")
  for (const link of links) {
    const owner = { ...around(link.path, places) }
    if (owner.access === "write" && owner.path !== "/") {
      refuse(entry, `it leads through the link ${link.path}, which whoever may write ${owner.path} can change`)
    }
    const folder = writable.find((other) => isWithin(link.path, other))
    if (folder !== undefined) {
      refuse(entry, `it leads through the link ${link.path}, and sandboxed processes could write ${folder}`)
    }
  }
}

/** Directories between a rule and the one around it, which must not be moved away with what they hold. */
const between = (path: string, outer: string): ReadonlyArray<string> => {
  const all: Array<string> = []
  for (let at = dirname(path); at !== outer && at !== "/"; at = dirname(at)) all.push(at)
  return all
}

const mountsOf = (places: ReadonlyMap<string, Place>) => {
  const mounts = new Map<string, Mount>()
  const placeholders: Array<string> = []
  const all = outermostFirst(places.values())
  for (const { path, access, entry, kind, links, hasParent } of all) {
    const outer = around(path, places)
    // These are always there.
    if (path === "/dev" || isWithin(path, "/proc")) continue
    for (const { path, target } of links) {
      if (around(path, places).access === "none") mounts.set(path, { _tag: "Link", path, target })
    }
    if (access === outer.access) continue
    if (kind === "missing") {
      // What is not there cannot be read, nor written where nobody may create it.
      if (access === "write" || (access === "read" && outer.access !== "write")) continue
      if (!hasParent) refuse(entry, "nothing is there yet, nor the directory it would be in")
      placeholders.push(path)
    }
    if (outer.access === "write") {
      for (const pinned of between(path, outer.path)) {
        if (!mounts.has(pinned)) mounts.set(pinned, { _tag: "Bind", path: pinned, writable: true })
      }
    }
    if (access === "none" || kind === "missing") {
      const traversable =
        access === "read" || all.some((other) => other.access !== "none" && isWithin(other.path, path))
      mounts.set(path, { _tag: "Hide", path, kind: kind === "file" ? kind : "directory", traversable })
    } else mounts.set(path, { _tag: "Bind", path, writable: access === "write" })
  }
  return { mounts: outermostFirst(mounts.values()), placeholders }
}

/** Rules that follow from others: who may write a project may not make others run something there. */
const implied = (places: ReadonlyMap<string, Place>, look: typeof follow): ReadonlyArray<Place> =>
  Array.from(places.values())
    .filter(({ access, kind, path }) => access === "write" && kind === "directory" && path !== "/")
    .flatMap(({ path }) => protectedNames.map((name) => join(path, name)))
    .filter((path) => !places.has(path))
    .map((path) => locate({ path, access: "read", entry: `\`${path}\` (protected)` }, look))
    .filter(({ kind, links }) => kind !== "missing" && links.length === 0)

/**
 * The mounts that enforce a policy. `writable` are folders that confined programs may have written before: links in them
 * are not trusted, whatever this policy says of them.
 */
export const plan = (
  { files, isolated }: Policy,
  writable: ReadonlyArray<string> = [],
  look: typeof follow = follow
): Either.Either<Confinement, NotAllowed> => {
  if (files === undefined) return Either.right({ mounts: undefined, placeholders: [], isolated })
  return Either.try({
    try: () => {
      const named = merge(files.map((rule) => locate(rule, look)))
      for (const place of named.values()) check(place, named, writable)
      const places = new Map([...named, ...implied(named, look).map((place) => [place.path, place] as const)])
      const { mounts, placeholders } = mountsOf(places)
      if (mounts.length > maxMounts) throw new Unenforceable(`the sandbox takes more than ${maxMounts} mounts`)
      return { mounts, placeholders, isolated }
    },
    catch: (error) => {
      if (error instanceof Unenforceable) return new NotAllowed({ message: error.message })
      throw error
    }
  })
}
