/**
 * A small plot of the latest values of something, without numbers.
 *
 * @since 0.1.0
 */

const width = 72
const height = 20
const shown = 30

/** Draws values from 0 to the largest of them, which is at least `least`. */
export const Sparkline = (props: {
  readonly values: ReadonlyArray<number>
  readonly least: number
  readonly label: string
}) => {
  const values = props.values.slice(-shown)
  const most = Math.max(props.least, ...values)
  const points = values.map((value, i) => {
    const x = width - (values.length - 1 - i) * (width / (shown - 1))
    return `${x.toFixed(1)},${(height - 1.5 - (value / most) * (height - 3)).toFixed(1)}`
  })
  return (
    <svg class="sparkline" width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img">
      <title>{props.label}</title>
      <line x1="0" x2={width} y1={height - 1} y2={height - 1} />
      {points.length > 1 && <polyline points={points.join(" ")} />}
    </svg>
  )
}
