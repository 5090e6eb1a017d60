import { escapeXml } from '../../formats/xml.ts'
import { type ActionKind, actionName, type Schedule } from './schedule.ts'
import type { TimedAction, Timeline } from './timeline.ts'

/** What is drawn as one box: an action, or two that overlap. */
interface Box {
  readonly label: string
  readonly kind: ActionKind
  readonly start: number
  readonly end: number
}

/** SGR code and fill per kind; a pair takes the colours of its backward. */
const terminalColour: Readonly<Record<ActionKind, number>> = { F: 34, B: 36, W: 33, BW: 32 }
const fill: Readonly<Record<ActionKind, string>> = { F: '#a6c8ff', B: '#9ef0f0', W: '#fddc69', BW: '#a7f0ba' }

function boxesOf(actions: readonly TimedAction[], v: number): Box[] {
  const boxes: Box[] = []
  for (const action of actions) {
    const { kind, start, end } = action
    const label = actionName(action, v)
    const last = boxes.at(-1)
    if (last && last.start === start && last.end === end && end > start)
      boxes.splice(-1, 1, { label: `${last.label}&${label}`, kind, start, end })
    else boxes.push({ label, kind, start, end })
  }
  return boxes.filter(({ start, end }) => end > start)
}

/** Width of a unit of time in which every box has room for its label. */
const scaleOf = (rows: readonly (readonly Box[])[], room: (label: string) => number): number =>
  rows.flat().reduce((most, { label, start, end }) => Math.max(most, room(label) / (end - start)), 0)

export interface TextOptions {
  /** Longest line in characters; longer timelines continue below. Default: no limit. */
  readonly columns?: number
  readonly colour?: boolean
}

/** A timeline as text: a row per rank, every action as wide as it is long, idle time as dots. */
export function timelineText(schedule: Schedule, timeline: Timeline, options: TextOptions = {}): string[] {
  const rows = timeline.ranks.map(({ actions }) => boxesOf(actions, schedule.v))
  // The shortest action still shows its label and a space.
  const scale = scaleOf(rows, (label) => label.length + 1)
  const column = (time: number): number => Math.round(time * scale)
  const width = column(timeline.total)
  const heads = rows.map((_, r) => `rank ${String(r).padStart(String(rows.length - 1).length)}  `)
  const room = Math.max(16, (options.columns ?? Number.POSITIVE_INFINITY) - heads[0]!.length)
  const lines: string[] = []
  for (let from = 0; from < width; from += room) {
    if (from > 0) lines.push('')
    for (const [r, boxes] of rows.entries()) {
      let [line, at] = [heads[r]!, from]
      const to = Math.min(width, from + room)
      for (const { label, kind, start, end } of boxes) {
        const [a, b] = [column(start), column(end)]
        const [first, last] = [Math.max(a, from), Math.min(b, to)]
        if (first >= last) continue
        line += '.'.repeat(first - at)
        const text = label.padEnd(b - a).slice(first - a, last - a)
        line += options.colour ? `\x1b[${terminalColour[kind]}m${text}\x1b[0m` : text
        at = last
      }
      lines.push(`${line}${'.'.repeat(Math.max(0, to - at))}`.trimEnd())
    }
  }
  return lines
}

/** A timeline with what stands above it. */
export interface TitledTimeline {
  readonly title: string
  readonly schedule: Schedule
  readonly timeline: Timeline
}

/**
 * Timelines as an SVG picture, one below the other on one scale, so in one unit of time; every action has its name and
 * time as a tooltip.
 */
export function timelineSvg(...timelines: readonly TitledTimeline[]): string {
  const [margin, head, row] = [60, 40, 24]
  const drawn = timelines.map(({ timeline, schedule }) =>
    timeline.ranks.map(({ actions }) => boxesOf(actions, schedule.v)),
  )
  const scale = Math.max(...drawn.map((rows) => scaleOf(rows, (label) => 7 * label.length + 4)))
  let top = 0
  const parts = timelines.map(({ title }, part) => {
    const [y, rows] = [top, drawn[part]!]
    top += head + rows.length * row
    return [
      `<g transform="translate(0 ${y})">`,
      `<text x="4" y="20">${escapeXml(title)}</text>`,
      ...rows.map((_, r) => `<text x="4" y="${head + r * row + 15}">rank ${r}</text>`),
      ...rows.flatMap((all, r) =>
        all.map(({ label, kind, start, end }) => {
          const [x, y, w] = [margin + start * scale, head + r * row, (end - start) * scale]
          return [
            `<rect x="${x.toFixed(2)}" y="${y}" width="${w.toFixed(2)}" height="${row - 2}" fill="${fill[kind]}" stroke="#525252" stroke-width="0.5">`,
            `<title>rank ${r}: ${escapeXml(label)}, ${short(start)} to ${short(end)}</title></rect>`,
            `<text x="${(x + w / 2).toFixed(2)}" y="${y + 15}" text-anchor="middle">${escapeXml(label)}</text>`,
          ].join('')
        }),
      ),
      '</g>',
    ].join('\n')
  })
  const width = scale * Math.max(...timelines.map(({ timeline }) => timeline.total))
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${Math.ceil(width + 2 * margin)}" height="${top + 10}" font-family="sans-serif" font-size="11">`,
    '<rect width="100%" height="100%" fill="white"/>',
    ...parts,
    '</svg>\n',
  ].join('\n')
}

const short = (time: number): number => Number(time.toFixed(3))
