/**
 * Operating system errors in the words that the original's clients know: `<strerror text> (os error <errno>)`.
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
  // Of two names for one number, as EAGAIN and EWOULDBLOCK, the one with a text counts: the last one of a key wins.
  Object.entries(constants.errno)
    .sort(([a], [b]) => Number(a in texts) - Number(b in texts))
    .map(([code, number]) => [number, code])
)

/** The text of an error code such as `ENOENT`. */
export const text = (code: string): string => {
  const number = numbers.get(code)
  return number === undefined ? code : `${texts[code] ?? code} (os error ${number})`
}

/** The code, such as `ENOENT`, of an error number. */
export const codeName = (errno: number): string => codes.get(errno) ?? `errno ${errno}`

/** The error code of something thrown, if it has one. */
export const codeOf = (error: unknown): string | undefined =>
  typeof error === "object" && error !== null && "code" in error && typeof error.code === "string"
    ? error.code
    : undefined

/** The text of something thrown by a system call. */
export const describe = (error: unknown): string => {
  const code = codeOf(error)
  if (code !== undefined && numbers.has(code)) return text(code)
  // Node's own codes, as ERR_DLOPEN_FAILED, say less than the sentence they come with.
  const [sentence = ""] = (error instanceof Error ? error.message : String(error)).split("\n", 1)
  return sentence
}
