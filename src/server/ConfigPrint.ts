/**
 * Prints the effective settings as a configuration file with the origin of each value.
 *
 * @since 0.1.0
 */
import * as TOML from "smol-toml"
import * as ServerConfig from "./ServerConfig.js"

const mask = "********"

/** Masks credentials in a URL: before its host, or among its parameters. */
const maskUrl = (text: string): string => {
  if (!URL.canParse(text)) return text
  const url = new URL(text)
  if (url.username === "" && url.password === "" && url.search === "") return text
  if (url.username !== "" || url.password !== "") {
    url.username = mask
    url.password = ""
  }
  for (const key of Array.from(url.searchParams.keys())) url.searchParams.set(key, mask)
  return url.href
}

const shown = (key: ServerConfig.Key, value: ServerConfig.Value): ServerConfig.Value => {
  if (ServerConfig.settings[key].secret) return mask
  return typeof value === "string" ? maskUrl(value) : value
}

/**
 * Prints each setting on a line. Settings without a value are commented out; secrets are masked.
 *
 * @category utilities
 */
export const format = (resolved: ServerConfig.Resolved): string =>
  ServerConfig.keys
    .map((key) => {
      const { value, source } = resolved[key]
      return value === undefined
        ? `# ${key} is not set`
        : `${TOML.stringify({ [key]: shown(key, value) }).trim()} # ${source}`
    })
    .map((line) => `${line}\n`)
    .join("")
