/** Sandboxes in their wire format. */

export const root = { type: "special", value: { kind: "root" } }
export const special = (kind: string, subpath?: string) => ({ type: "special", value: { kind, subpath } })
export const at = (path: string) => ({ type: "path", path: `file://${path}` })
export const entry = (path: object, access: string) => ({ path, access })
export const readRoot = entry(root, "read")

/** A managed sandbox with these entries. */
export const sandbox = (entries: ReadonlyArray<object>, more: object = {}, network = "restricted") => ({
  permissions: { type: "managed", file_system: { type: "restricted", entries }, network },
  windowsSandboxLevel: "disabled",
  ...more
})
