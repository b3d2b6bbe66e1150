import { assert, describe, it } from "@effect/vitest"
import { SessionPlaces } from "../../src/session/SessionPlaces.js"

interface Place {
  readonly subject: string
  readonly isKept: boolean
  readonly hasProcesses: boolean
  readonly expiresAtMs: number
}

const place = (subject: string, expiresAtMs: number, more: Partial<Place> = {}): Place => ({
  subject,
  expiresAtMs,
  isKept: false,
  hasProcesses: false,
  ...more
})

describe("who gives way", () => {
  const placesOf = (detached: ReadonlyArray<Place>, attached: ReadonlyArray<Place> = []) => {
    const places = new SessionPlaces<Place>()
    for (const each of [...attached, ...detached]) places.take(each)
    for (const each of detached) places.detach(each)
    return places
  }

  it("one without processes, that its client did not ask to be kept, that expires first", () => {
    const busy = place("a", 1, { hasProcesses: true })
    const kept = place("a", 2, { isKept: true })
    const [first, second] = [place("a", 3), place("a", 4)]
    const places = placesOf([busy, kept, first, second])
    for (const expected of [first, second, kept]) {
      assert.strictEqual(places.displaced("a"), expected)
      places.leave(expected)
    }
    assert.isUndefined(places.displaced("a"), "its own with processes stay")
    assert.isUndefined(places.displaced("b"), "one more is not too many")
  })

  it("of the subject with the most, also attached ones; of two with as many, what is missed less", () => {
    const [a, b, c] = [place("a", 1), place("b", 2, { hasProcesses: true }), place("c", 3)]
    const attached = ["a", "b", "b", "c", "c"].map((subject) => place(subject, Number.POSITIVE_INFINITY))
    const places = placesOf([a, b, c], attached)
    assert.strictEqual(places.displaced("d"), c)
    places.attach(c)
    assert.strictEqual(places.displaced("d"), b)
    places.leave(b)
    assert.strictEqual(places.displaced("d"), a)
  })

  it("is known without a look at all sessions", () => {
    let looks = 0
    const many = Array.from({ length: 10_000 }, (_, i) => ({
      ...place(`subject ${i % 100}`, i),
      get hasProcesses() {
        looks++
        return false
      }
    }))
    const places = placesOf(many)
    assert.strictEqual(places.displaced("subject 5"), many[5])
    assert.strictEqual(places.displaced("another"), many[0])
    assert.isBelow(looks, 1000)
  })
})
