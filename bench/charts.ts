import { number } from './report.js'
import type { Row } from './result.js'

/*
 * Charts as SVG, made of nothing but text: readable on light and on dark pages, and in a diff.
 */

const colours = { ours: ['#0969da', '#58a6ff'], limit: ['#8c959f', '#6e7681'], peer: ['#d4a72c', '#9e7d1f'] } as const

const coloured = (shade: 0 | 1): string => Object.entries(colours)
  .map(([kind, shades]) => `.${kind} { fill: ${shades[shade]} } .${kind}-line { stroke: ${shades[shade]} }`).join('\n')

const style = `<style>
text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #24292f }
.title { font-weight: 600 }
.quiet { fill: #57606a; font-weight: 400 }
.grid { stroke: #d0d7de }
polyline { fill: none; stroke-width: 2 }
${coloured(0)}
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.quiet { fill: #9198a1 }
.grid { stroke: #3d444d }
${coloured(1)}
}
</style>`

interface Bar { readonly name: string, readonly value: number, readonly kind: 'ours' | 'limit' | 'peer' }

const [columnWidth, gap, barHeight, titleHeight, labelWidth, valueWidth] = [440, 40, 20, 44, 140, 70]

/** Rows beside each other, two in a line, with a bar for each side, shortest first. */
export function barCharts (rows: readonly Row[], about: string): string {
  const heights: number[] = []
  const panels = rows.map((row, i) => {
    const bars = barsOf(row)
    const [line, column] = [i >> 1, i & 1]
    const height = titleHeight + bars.length * barHeight + 20
    heights[line] = Math.max(heights[line] ?? 0, height)
    return { row, bars, line, column }
  })
  const top = (line: number) => heights.slice(0, line).reduce((sum, height) => sum + height, 8)
  return svg(2 * columnWidth + gap, top(heights.length), about, panels.map(({ row, bars, line, column }) =>
    `<g transform="translate(${column * (columnWidth + gap)} ${top(line)})">${panel(row, bars)}</g>`))
}

function panel ({ name, unit }: Row, bars: readonly Bar[]): string {
  const most = Math.max(...bars.map(bar => bar.value))
  const room = columnWidth - labelWidth - valueWidth
  const lines = bars.map(({ name, value, kind }, i) => {
    const y = titleHeight - 10 + i * barHeight
    const length = most === 0 ? 0 : Math.max(1, value / most * room)
    return [
      `<text x="${labelWidth - 8}" y="${y + 14}" text-anchor="end"${kind === 'ours' ? ' class="title"' : ''}>${escaped(name)}</text>`,
      `<rect class="${kind}" x="${labelWidth}" y="${y + 3}" width="${length.toFixed(1)}" height="${barHeight - 6}" rx="2"/>`,
      `<text class="quiet" x="${(labelWidth + length + 6).toFixed(1)}" y="${y + 14}">${number(value)}</text>`
    ].join('')
  })
  return `<text class="title" x="0" y="18">${escaped(name)}<tspan class="quiet" dx="8">${escaped(unit)}</tspan></text>\n${lines.join('\n')}`
}

function barsOf ({ ours, limit, peers }: Row): Bar[] {
  const all = [
    { name: 'ours', value: ours, kind: 'ours' },
    { name: 'limit', value: limit, kind: 'limit' },
    ...Object.entries(peers).map(([name, value]) => ({ name, value, kind: 'peer' }))
  ] as const
  return all.filter((bar): bar is Bar => bar.value !== null).sort((a, b) => a.value - b.value)
}

/** A line for each side over sizes of ten times each; both scales are logarithmic. */
export function lineChart (rows: readonly Row[], sizes: readonly number[], about: string): string {
  const [width, height, left, right, upper, lower] = [2 * columnWidth + gap, 360, 80, 150, 40, 40]
  const sides = ['ours', 'limit', ...Object.keys(rows[0]?.peers ?? {})]
  const valueOf = (row: Row, side: string) => side === 'ours' ? row.ours : side === 'limit' ? row.limit : row.peers[side] ?? null
  const values = rows.flatMap(row => sides.map(side => valueOf(row, side))).filter(value => value !== null)
  const [least, most] = [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))]
  const x = (i: number) => left + i / (sizes.length - 1) * (width - left - right)
  const y = (value: number) => upper + (most - Math.log10(value)) / (most - least) * (height - upper - lower)

  const grid = Array.from({ length: most - least + 1 }, (_, i) => {
    const value = 10 ** (least + i)
    return `<line class="grid" x1="${left}" x2="${width - right}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}"/><text class="quiet" x="${left - 8}" y="${(y(value) + 4).toFixed(1)}" text-anchor="end">${value.toLocaleString('en')}</text>`
  })
  const ticks = sizes.map((size, i) => `<text class="quiet" x="${x(i).toFixed(1)}" y="${height - lower + 22}" text-anchor="middle">${size.toLocaleString('en')}</text>`)
  const ends = sides.map(side => ({ side, at: y(valueOf(rows.at(-1)!, side) ?? 1) })).sort((a, b) => a.at - b.at)
  ends.forEach((end, i) => { if (i > 0) end.at = Math.max(end.at, ends[i - 1]!.at + 16) })
  const lines = ends.map(({ side, at }) => {
    const kind = side === 'ours' || side === 'limit' ? side : 'peer'
    const points = rows.map((row, i) => `${x(i).toFixed(1)},${y(valueOf(row, side) ?? 1).toFixed(1)}`)
    return `<polyline class="${kind}-line" points="${points.join(' ')}"/><text class="${kind}" x="${width - right + 8}" y="${(at + 4).toFixed(1)}">${escaped(side)}</text>`
  })
  return svg(width, height, about, ['<text class="title" x="0" y="18">Time for each id<tspan class="quiet" dx="8">ns, by ids in one getMany</tspan></text>', ...grid, ...ticks, ...lines])
}

const svg = (width: number, height: number, about: string, parts: readonly string[]): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 0 ${width + 16} ${height}" width="${width + 16}" height="${height}" role="img" aria-label="${escaped(about)}">\n${style}\n${parts.join('\n')}\n</svg>\n`

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
