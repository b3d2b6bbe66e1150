/**
 * Operating system errors, formatted like the original's (Rust's): `<strerror text> (os error <errno>)`.
 *
 * @since 0.1.0
 */
import { constants } from "node:os"

const texts: { readonly [code: string]: string } = {
  E2BIG: "Argument list too long",
  EACCES: "Permission denied",
  EAGAIN: "Resource temporarily unavailable",
  EBADF: "Bad file descriptor",
  EBUSY: "Device or resource busy",
  EDQUOT: "Disk quota exceeded",
  EEXIST: "File exists",
  EFBIG: "File too large",
  EINVAL: "Invalid argument",
  EIO: "Input/output error",
  EISDIR: "Is a directory",
  ELOOP: "Too many levels of symbolic links",
  EMFILE: "Too many open files",
  EMLINK: "Too many links",
  ENAMETOOLONG: "File name too long",
  ENFILE: "Too many open files in system",
  ENOENT: "No such file or directory",
  ENOEXEC: "Exec format error",
  ENOMEM: "Cannot allocate memory",
  ENOSPC: "No space left on device",
  ENOTDIR: "Not a directory",
  ENOTEMPTY: "Directory not empty",
  ENXIO: "No such device or address",
  EOPNOTSUPP: "Operation not supported",
  EOVERFLOW: "Value too large for defined data type",
  EPERM: "Operation not permitted",
  EROFS: "Read-only file system",
  ESPIPE: "Illegal seek",
  ESTALE: "Stale file handle",
  ETXTBSY: "Text file busy",
  EXDEV: "Invalid cross-device link"
}

const numbers: ReadonlyMap<string, number> = new Map(Object.entries(constants.errno))
const codes: ReadonlyMap<number, string> = new Map(
  // Some numbers have two names (EAGAIN, EWOULDBLOCK). Prefer the one with a text: sorted last, it wins in the Map.
  Object.entries(constants.errno)
    .sort(([a], [b]) => Number(a in texts) - Number(b in texts))
    .map(([code, number]) => [number, code])
)

/** The text of an error code: `ENOENT` is "No such file or directory (os error 2)". */
export const text = (code: string): string => {
  const number = numbers.get(code)
  return number === undefined ? code : `${texts[code] ?? code} (os error ${number})`
}

/** The code of an error number: 2 is `ENOENT`. */
export const codeName = (errno: number): string => codes.get(errno) ?? `errno ${errno}`

/** The `code` of a thrown value, such as `ENOENT`; undefined if it has none. */
export const codeOf = (error: unknown): string | undefined =>
  typeof error === "object" && error !== null && "code" in error && typeof error.code === "string"
    ? error.code
    : undefined

/** The text of a thrown value: `text` of its code, or else the first line of its message. */
export const describe = (error: unknown): string => {
  const code = codeOf(error)
  if (code !== undefined && numbers.has(code)) return text(code)
  // Node's own codes, such as ERR_DLOPEN_FAILED, say less than their message.
  const [sentence = ""] = (error instanceof Error ? error.message : String(error)).split("\n", 1)
  return sentence
}
