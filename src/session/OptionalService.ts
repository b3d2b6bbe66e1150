/**
 * Services that only some servers have, such as recordings and shares.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type { NotAllowed } from "../protocol/Failure.js"

/** Uses a service; fails with `refusal` on a server without it. */
export const using =
  <S>(service: S | undefined, refusal: NotAllowed) =>
  <A, E>(use: (service: S) => Effect.Effect<A, E>): Effect.Effect<A, E | NotAllowed> =>
    service === undefined ? refusal : use(service)
