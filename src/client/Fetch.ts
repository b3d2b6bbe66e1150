/**
 * The standard `fetch`, whose requests are made by the server's machine: for libraries that take a `fetch`.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Redirect from "../internal/Redirect.js"
import type * as Http from "./Http.js"

/** The default `maxRequestBytes`: base64 of it fits into the longest message that servers read by default. */
const defaultRequestBytes = 33554432

/** Statuses of a redirect, and those without a body. */
const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])
const bodiless: ReadonlySet<number> = new Set([204, 205, 304])

/** Headers that frame the message or ask for another protocol. The server frames messages itself. */
const refusedHeaders = ["transfer-encoding", "trailer", "upgrade", "keep-alive"]

/** The formats of `DecompressionStream`, by the names of `content-encoding`. */
const decoders: { readonly [encoding: string]: "gzip" | "deflate" } = {
  gzip: "gzip",
  "x-gzip": "gzip",
  deflate: "deflate"
}

/**
 * Options of `make`.
 *
 * @category models
 */
export interface Options {
  /** The longest body of a request, in bytes; 32 MiB. It is sent to the server in one message. */
  readonly maxRequestBytes?: number
}

/** Why a request cannot be made; the cause of a `TypeError`. */
const refusal = (message: string) => new TypeError(message)

/** Members of requests that ask for something that is not done here. */
const check = ({ integrity, cache, mode, headers }: Request, init: object | undefined): string | undefined => {
  if (integrity !== "") return "integrity is not checked here: compare the digest of the body instead"
  if (cache === "only-if-cached") return "there is no cache here: only-if-cached cannot be met"
  if (mode === "same-origin") return "there is no origin here: same-origin cannot be met"
  if (init !== undefined && "dispatcher" in init && init.dispatcher !== undefined) {
    return "a dispatcher makes connections of this machine: leave it out"
  }
  const header = refusedHeaders.find((name) => headers.has(name))
  return header === undefined ? undefined : `the header ${header} cannot be set: leave it out`
}

/** The bytes of a header as text. The protocol carries text, in UTF-8. */
const textOf = (value: string): string | undefined => {
  const bytes = Buffer.from(value, "latin1")
  const text = bytes.toString()
  return Buffer.from(text).equals(bytes) ? text : undefined
}

/** The whole body of a request; undefined if it has none. */
const bodyOf = ({ body, headers }: Request, maxBytes: number): Effect.Effect<Buffer | undefined, unknown> =>
  body === null
    ? Effect.succeed(undefined)
    : Effect.acquireUseRelease(
        Effect.sync(() => body.getReader()),
        (reader) =>
          Effect.tryPromise({
            try: async () => {
              const pieces: Array<Uint8Array> = []
              let length = 0
              for (let next = await reader.read(); !next.done; next = await reader.read()) {
                length += next.value.length
                if (length > maxBytes) throw refusal(`the body is longer than ${maxBytes} bytes (maxRequestBytes)`)
                pieces.push(next.value)
              }
              const said = headers.get("content-length")
              if (said !== null && Number(said) !== length) {
                throw refusal(`the header content-length is ${said}, but the body has ${length} bytes`)
              }
              return Buffer.concat(pieces, length)
            },
            catch: (error) => error
          }),
        (reader) => Effect.sync(() => void reader.cancel().catch(() => {}))
      )

/** What is sent, as the rules for redirects take it. */
const requestOf = (request: Request, maxBytes: number): Effect.Effect<Redirect.Redirectable, unknown> =>
  Effect.gen(function* () {
    const headers = Array.from(request.headers, ([name, value]) => ({ name, value, secret: false }))
    const add = (name: string, value: string) => {
      if (!request.headers.has(name)) headers.push({ name, value, secret: false })
    }
    add("accept-encoding", "gzip, deflate")
    add("user-agent", "exec-server")
    // There is no cache here, but there may be one on the way.
    if (request.cache === "no-store" || request.cache === "reload") add("cache-control", "no-cache")
    if (request.cache === "no-cache") add("cache-control", "max-age=0")
    const body = yield* bodyOf(request, maxBytes)
    const { method } = request
    return { method, url: new URL(request.url), headers, body }
  })

/** A request of the protocol. Redirects are followed here, so that the address of the response is known. */
const optionsOf = ({ method, url, headers, body }: Redirect.Redirectable): Effect.Effect<Http.Options, TypeError> =>
  Effect.gen(function* () {
    const texts: Array<{ readonly name: string; readonly value: string }> = []
    for (const { name, value } of headers) {
      const text = textOf(value)
      if (text === undefined) return yield* Effect.fail(refusal(`the header ${name} is not UTF-8`))
      texts.push({ name, value: text })
    }
    const content = body === undefined ? {} : { bodyBase64: body }
    return { method, url: url.href, headers: texts, redirectPolicy: "stop", ...content }
  })

/** The answer to the last of several requests. */
interface Answer extends Http.Response<Stream.Stream<Buffer, unknown>> {
  readonly url: URL
  readonly isRedirected: boolean
}

/** Sends a request, and those that redirects ask for. */
const exchange = (
  http: Pick<Http.Http, "stream">,
  request: Request,
  first: Redirect.Redirectable
): Effect.Effect<Answer, unknown, Scope.Scope> => {
  const isSilent = request.referrer === "" || request.referrerPolicy === "no-referrer"
  const send = (current: Redirect.Redirectable, followed: number): Effect.Effect<Answer, unknown, Scope.Scope> =>
    Effect.gen(function* () {
      const options = yield* optionsOf(current)
      const hop = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
      const response = yield* Scope.extend(http.stream(options), hop)
      const answer = { ...response, url: current.url, isRedirected: followed > 0 }
      if (!redirects.has(response.status) || request.redirect === "manual") return answer
      if (request.redirect === "error") {
        return yield* Effect.fail(refusal(`${current.url.href} redirects, and redirect is "error"`))
      }
      const location = response.headers.find(({ name }) => name === "location")?.value
      const next = Redirect.next(current, response.status, location, followed)
      if (Either.isLeft(next)) return yield* Effect.fail(refusal(`${next.left} for url (${current.url.href})`))
      if (next.right === undefined) {
        if (location === undefined) return answer
        return yield* Effect.fail(refusal(`${current.url.href} redirects to an invalid address`))
      }
      // The body of a redirect may have any length: do not receive it.
      yield* Scope.close(hop, Exit.void)
      const { headers } = next.right
      return yield* send(
        isSilent ? { ...next.right, headers: headers.filter(({ name }) => name !== "referer") } : next.right,
        followed + 1
      )
    })
  return send(first, 0)
}

/** The body of a response, which is received as fast as it is read. */
class Body {
  private controller: ReadableStreamDefaultController<Uint8Array> | undefined
  private readonly demand = Effect.unsafeMakeLatch(false)
  readonly stream: ReadableStream<Uint8Array>

  constructor(onCancel: () => void) {
    this.stream = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.controller = controller
      },
      pull: () => void this.demand.unsafeOpen(),
      cancel: onCancel
    })
  }

  /** Passes all of it to the reader. */
  fill(source: Stream.Stream<Buffer, unknown>): Effect.Effect<void, unknown> {
    return Stream.runForEach(source, (piece) =>
      Effect.map(this.demand.await, () => {
        this.controller?.enqueue(piece)
        if ((this.controller?.desiredSize ?? 0) <= 0) this.demand.unsafeClose()
      })
    ).pipe(Effect.andThen(Effect.sync(() => this.controller?.close())))
  }

  fail(reason: unknown): void {
    this.controller?.error(reason)
  }
}

/** Adds to a response what its constructor does not take. */
const addressed = (response: Response, url: string, redirected: boolean): Response =>
  Object.defineProperties(response, {
    url: { value: url },
    redirected: { value: redirected },
    type: { value: "basic" },
    clone: { value: () => addressed(Response.prototype.clone.call(response), url, redirected) }
  })

/** The decoded body of an answer; a reason if its encoding is unknown. */
const decoded = (body: ReadableStream<Uint8Array>, headers: Headers): ReadableStream<Uint8Array> | string => {
  const names = (headers.get("content-encoding") ?? "").toLowerCase().split(",")
  let plain = body
  // The encoding that was applied last comes off first.
  for (const name of names.map((each) => each.trim()).reverse()) {
    if (name === "" || name === "identity") continue
    const format = decoders[name]
    if (format === undefined) return `the body is encoded by ${name}: ask for another accept-encoding`
    plain = plain.pipeThrough(new DecompressionStream(format))
  }
  return plain
}

/** The response of an answer; a reason if there is none. */
const responseOf = (method: string, answer: Answer, body: Body): Response | string => {
  const { status, url, isRedirected } = answer
  const headers = new Headers()
  for (const { name, value } of answer.headers) headers.append(name, value)
  if (status < 200 || status > 599) return `the status ${status} is not one of a response`
  const isBodiless = method === "HEAD" || bodiless.has(status)
  const plain = isBodiless ? null : decoded(body.stream, headers)
  return typeof plain === "string" ? plain : addressed(new Response(plain, { status, headers }), url.href, isRedirected)
}

/**
 * Makes a `fetch` of a client's `http`. The end of the scope aborts what it has in progress.
 *
 * The body of a request may be a stream; it is collected before it is sent. The body of a response is received while it
 * is read; if more than 16 MiB of it are unread, it fails. `statusText` is empty. With `redirect: "manual"` the response
 * is the redirect itself. Failures are a `TypeError` whose `cause` is the client's error, or the reason of the signal.
 *
 * @category constructors
 */
export const make = (
  http: Pick<Http.Http, "stream">,
  { maxRequestBytes = defaultRequestBytes }: Options = {}
): Effect.Effect<typeof globalThis.fetch, never, Scope.Scope> =>
  Effect.map(FiberSet.makeRuntime<never>(), (run): typeof globalThis.fetch => async (input, init) => {
    const request = new Request(input, init)
    const { signal } = request
    signal.throwIfAborted()
    const refused = check(request, init)
    if (refused !== undefined) throw refusal(refused)
    return await new Promise<Response>((resolve, reject) => {
      let stop = () => {}
      const body = new Body(() => stop())
      const fail = (reason: unknown) => {
        reject(reason)
        body.fail(reason)
      }
      const onAbort = () => {
        fail(signal.reason)
        stop()
      }
      const whole = Effect.gen(function* () {
        const first = yield* requestOf(request, maxRequestBytes)
        const answer = yield* exchange(http, request, first)
        const response = responseOf(first.method, answer, body)
        if (typeof response === "string") return yield* Effect.fail(refusal(response))
        resolve(response)
        if (response.body !== null) yield* body.fill(answer.body)
      })
      const fiber = run(Effect.either(Effect.scoped(whole)))
      stop = () => fiber.unsafeInterruptAsFork(fiber.id())
      signal.addEventListener("abort", onAbort, { once: true })
      fiber.addObserver((exit) => {
        signal.removeEventListener("abort", onAbort)
        if (Exit.isFailure(exit)) fail(new TypeError("fetch failed", { cause: new Error("the fetch was ended") }))
        else if (Either.isLeft(exit.value)) fail(new TypeError("fetch failed", { cause: exit.value.left }))
      })
    })
  })
