/**
 * Answers requests for the files of the web console. Loaded with the first one; each file is read when it is asked for,
 * and kept, so that many slow clients share one copy.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { randomBytes } from "node:crypto"
import { readFile } from "node:fs/promises"
import type { IncomingMessage, ServerResponse } from "node:http"
import { join } from "node:path"
import * as Package from "../internal/Package.js"
import * as OsError from "../protocol/OsError.js"

const builtFolder = join(Package.root, "dist/console")

/** What every answer about the console says to browsers: it is what it is called, and concerns no other origin. */
export const headers = {
  connection: "close",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin"
}

/** Scripts only from files. Styles also from elements with the nonce; attributes, because terminals colour with them. */
const policy = (nonce: string) =>
  [
    "default-src 'none'",
    "script-src 'self'",
    `style-src 'self' 'nonce-${nonce}'`,
    "style-src-attr 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'"
  ].join("; ")

/** Where the page has its nonce. */
const placeholder = "__NONCE__"

/** The names of files with a hash of their content, and their types. Others are not served. */
const assets = /^\/console\/(([\w-]+)\.(js|css))$/
const types: { readonly [extension: string]: string } = {
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8"
}

/** The encodings that a file may be there in, best first, with their extensions. */
const encodings = [
  ["br", ".br"],
  ["gzip", ".gz"]
] as const

const accepts = (request: IncomingMessage, encoding: string) =>
  String(request.headers["accept-encoding"] ?? "")
    .split(",")
    .some((offer) => {
      const [name = "", ...parameters] = offer.split(";").map((part) => part.trim().toLowerCase())
      return name === encoding && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter))
    })

/** The content of a file; undefined if there is none. */
const read = (path: string) =>
  readFile(path).catch((error: unknown) => {
    if (OsError.codeOf(error) === "ENOENT") return undefined
    throw error
  })

/** An answer of plain text. */
export const text = (response: ServerResponse, status: number, body: string) =>
  response.writeHead(status, { ...headers, "content-type": "text/plain", "cache-control": "no-store" }).end(body)

/** The files that were read, by path: their names say their content. There are as many as were built. */
const kept = new Map<string, Buffer>()

const readOnce = async (path: string): Promise<Buffer | undefined> => {
  const known = kept.get(path)
  if (known !== undefined) return known
  const body = await read(path)
  if (body === undefined) return undefined
  // Others may have read it meanwhile: they share the copy that is kept.
  const first = kept.get(path) ?? body
  kept.set(path, first)
  return first
}

/** The page of a server, and that of a gateway. */
export type Html = "index.html" | "fleet.html"

const page = async (folder: string, name: Html, response: ServerResponse) => {
  const html = await read(join(folder, name))
  if (html === undefined) return text(response, 404, "the files of the web console are not installed\n")
  const nonce = randomBytes(16).toString("base64")
  const body = html.toString().replaceAll(placeholder, nonce)
  return response
    .writeHead(200, {
      ...headers,
      "content-type": "text/html; charset=utf-8",
      "content-length": Buffer.byteLength(body),
      "content-security-policy": policy(nonce),
      "cache-control": "no-store"
    })
    .end(body)
}

const asset = async (path: string, type: string, request: IncomingMessage, response: ServerResponse) => {
  const offered = encodings.filter(([encoding]) => accepts(request, encoding))
  for (const [encoding, extension] of [...offered, [undefined, ""] as const]) {
    const body = await readOnce(`${path}${extension}`)
    if (body === undefined) continue
    return response
      .writeHead(200, {
        ...headers,
        "content-type": type,
        "content-length": body.length,
        "cache-control": "public, max-age=31536000, immutable",
        vary: "accept-encoding",
        ...(encoding === undefined ? {} : { "content-encoding": encoding })
      })
      .end(body)
  }
  return text(response, 404, "")
}

/** Answers GET and HEAD for a path that is `/console` or below it. Rejects if a file cannot be read. */
export const answer = async (
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
  folder = builtFolder,
  html: Html = "index.html"
): Promise<unknown> => {
  if (path === "/console") return page(folder, html, response)
  // The page's own links are relative to /console. So is this, for proxies with a prefix.
  if (path === "/console/") return response.writeHead(308, { ...headers, location: "../console" }).end()
  const [, name, , extension = ""] = assets.exec(path) ?? []
  if (name === undefined) return text(response, 404, "")
  return asset(join(folder, name), types[extension] ?? "", request, response)
}
