/**
 * Plots on a canvas. It is a chunk of its own, loaded with the first plot.
 *
 * @since 0.1.0
 */
import UPlot from "uplot"

/** One line of a plot. */
export interface Series {
  readonly label: string
  readonly values: ReadonlyArray<number>
}

/** What is drawn: times in seconds, and values. */
export interface PlotProps {
  readonly title: string
  readonly times: ReadonlyArray<number>
  readonly series: ReadonlyArray<Series>
  readonly format: (value: number) => string
}

/** What draws a plot. */
export interface Drawing {
  readonly update: (props: PlotProps) => void
  readonly dispose: () => void
}

const height = 150

const colour = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

const dataOf = ({ times, series }: PlotProps): UPlot.AlignedData => [
  Array.from(times),
  ...series.map(({ values }) => Array.from(values))
]

/** Draws a plot into an element, as wide as that. */
export const draw = (element: HTMLElement, props: PlotProps): Drawing => {
  const strokes = [colour("--accent"), colour("--good"), colour("--bad")]
  const text = colour("--muted")
  const grid = { stroke: colour("--line"), width: 1 }
  const width = () => Math.max(200, element.clientWidth)
  const plot = new UPlot(
    {
      width: width(),
      height,
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range: (_plot, _least, most) => [0, Math.max(1, most * 1.1)] } },
      axes: [
        { stroke: text, grid, ticks: grid, font: "11px system-ui, sans-serif", space: 80, values: "{HH}:{mm}:{ss}" },
        {
          stroke: text,
          grid,
          ticks: grid,
          size: 70,
          font: "11px system-ui, sans-serif",
          values: (_plot, values) => values.map(props.format)
        }
      ],
      series: [
        {},
        ...props.series.map(({ label }, i) => ({
          label,
          stroke: strokes[i % strokes.length] ?? text,
          width: 1.5,
          points: { show: false }
        }))
      ]
    },
    dataOf(props),
    element
  )
  const observer = new ResizeObserver(() => plot.setSize({ width: width(), height }))
  observer.observe(element)
  return {
    update: (next) => plot.setData(dataOf(next)),
    dispose: () => {
      observer.disconnect()
      plot.destroy()
    }
  }
}
