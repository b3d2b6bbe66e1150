/**
 * A plot over time. What draws it is loaded with the first plot.
 *
 * @since 0.1.0
 */
import { useEffect, useRef } from "preact/hooks"
import type { Drawing, PlotProps } from "../Drawing.js"
import { isDark } from "../Theme.js"

/** A plot with its title. */
export const Plot = (props: PlotProps) => {
  const { title, series, format } = props
  const element = useRef<HTMLDivElement>(null)
  const drawing = useRef<Drawing | undefined>(undefined)
  const latest = useRef(props)
  latest.current = props
  const dark = isDark.value

  useEffect(() => {
    let isOver = false
    void import("../Drawing.js").then(({ draw }) => {
      if (isOver || element.current === null) return
      drawing.current = draw(element.current, latest.current)
    })
    return () => {
      isOver = true
      drawing.current?.dispose()
      drawing.current = undefined
    }
  }, [dark, series.length])
  useEffect(() => drawing.current?.update(props), [props.times])

  const now = series.map(({ label, values }) => `${label} ${format(values.at(-1) ?? 0)}`).join(", ")
  return (
    <figure class="plot">
      <figcaption>
        {title} <span class="sub">now: {now}</span>
      </figcaption>
      <div ref={element} role="img" aria-label={`${title}: ${now}`} />
    </figure>
  )
}
