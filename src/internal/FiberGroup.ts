/**
 * Fibers that end with a scope and have no parent: a child fiber would keep the fiber that forked it in memory.
 * Effect's `FiberSet` does the same at a cost of 900 more bytes per session.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"

/** Fibers that end together. */
export class FiberGroup {
  /** A group that ends with a scope. */
  static readonly make = (scope: Scope.Scope): Effect.Effect<FiberGroup> =>
    Effect.suspend(() => {
      const group = new FiberGroup()
      return Effect.as(Scope.addFinalizer(scope, group.end), group)
    })

  private readonly fibers = new Map<Fiber.RuntimeFiber<unknown, unknown>, string>()
  private closed = false

  /** Whether it has ended. */
  get isClosed(): boolean {
    return this.closed
  }

  /** Interrupts the fibers and waits for them; a fiber added later is interrupted at once. Whoever made it runs this. */
  readonly end = Effect.suspend(() => {
    this.closed = true
    if (this.fibers.size === 0) return Effect.void
    for (const fiber of this.fibers.keys()) fiber.unsafeInterruptAsFork(FiberId.none)
    return Fiber.awaitAll(Array.from(this.fibers.keys()))
  })

  /** The names of the fibers that run. */
  get names(): ReadonlyArray<string> {
    return Array.from(this.fibers.values())
  }

  /** Interrupts the fibers with these names, and does not wait for them. */
  interrupt(which: (name: string) => boolean): void {
    for (const [fiber, name] of this.fibers) if (which(name)) fiber.unsafeInterruptAsFork(FiberId.none)
  }

  /** Adds a running fiber to the group. */
  add(fiber: Fiber.RuntimeFiber<unknown, unknown>, name = ""): void {
    if (this.closed) fiber.unsafeInterruptAsFork(FiberId.none)
    this.fibers.set(fiber, name)
    fiber.addObserver(() => this.fibers.delete(fiber))
  }
}
