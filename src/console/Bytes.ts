/**
 * Bytes as base64 and as text.
 *
 * @since 0.1.0
 */

const encoder = new TextEncoder()

/** How many bytes become characters at a time: arguments of a call are limited. */
const step = 8192

/** Text as UTF-8. */
export const utf8 = (text: string): Uint8Array => encoder.encode(text)

/** Bytes as characters, one of them for each byte. */
const binary = (bytes: Uint8Array): string => {
  let text = ""
  for (let at = 0; at < bytes.length; at += step) text += String.fromCharCode(...bytes.subarray(at, at + step))
  return text
}

/** The base64 of bytes. */
export const toBase64 = (bytes: Uint8Array): string => btoa(binary(bytes))

/** The base64url of bytes, without padding. */
export const toBase64Url = (bytes: Uint8Array): string =>
  toBase64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")

/** The bytes of base64. */
export const fromBase64 = (text: string): Uint8Array => Uint8Array.from(atob(text), (one) => one.charCodeAt(0))

/** Bytes, one for each character; those of xterm's binary input. */
export const fromBinary = (text: string): Uint8Array => Uint8Array.from(text, (one) => one.charCodeAt(0) & 255)
