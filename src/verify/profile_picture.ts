import { escapeXml } from '../formats/xml.ts'
import type { KernelTime } from './profile.ts'
import { kernelsOf, partsOf, type StepProfile } from './step_profile.ts'

const [WIDTH, MARGIN, BAR, ROW] = [960, 24, 30, 22]
/** Where bars of kernels begin, and how long the longest is; labels stand before them, figures after. */
const [LABELS, LONGEST] = [310, 380]
const fills = ['#a6c8ff', '#9ef0f0', '#fddc69', '#a7f0ba', '#ffb3b8', '#d4bbff', '#ffd6e8', '#bae6ff']
const [OTHER, LAUNCHING, HOST, REST] = ['#e0e0e0', '#a8a8a8', '#6f6f6f', '#ffffff']
const STROKE = 'stroke="#525252" stroke-width="0.5"'

/** A part of a step's bar. */
interface Slice {
  readonly label: string
  readonly seconds: number
  readonly fill: string
}

const ms = (seconds: number): string =>
  `${seconds < 0.1 ? (1000 * seconds).toPrecision(3) : (1000 * seconds).toFixed(0)} ms`
const text = (x: number, y: number, content: string, more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y}"${more}>${escapeXml(content)}</text>`

/** Kernel time by op, what it has beyond the colours together, then the other parts. */
function slicesOf(step: StepProfile): Slice[] {
  const { launching, host, rest } = partsOf(step)
  const byOp = new Map<string, number>()
  for (const { op, seconds } of kernelsOf(step)) byOp.set(op, (byOp.get(op) ?? 0) + seconds)
  const ops = [...byOp].sort(([, a], [, b]) => b - a)
  const others = ops.slice(fills.length).reduce((sum, [, seconds]) => sum + seconds, 0)
  return [
    ...ops.slice(0, fills.length).map(([label, seconds], i) => ({ label, seconds, fill: fills[i]! })),
    { label: 'other kernels', seconds: others, fill: OTHER },
    { label: 'launch overhead', seconds: launching, fill: LAUNCHING },
    { label: 'host', seconds: host, fill: HOST },
    { label: 'not explained', seconds: rest, fill: REST },
  ].filter(({ seconds }) => seconds > 0)
}

/** The step as one bar with what it consists of below it, its real length marked where parts overlap. */
function stepBar(step: StepProfile, top: number): { readonly parts: string[]; readonly height: number } {
  const slices = slicesOf(step)
  const total = slices.reduce((sum, { seconds }) => sum + seconds, 0)
  const scale = (WIDTH - 2 * MARGIN) / Math.max(total, step.seconds)
  const { rest } = partsOf(step)
  const title = `${step.name}: ${ms(step.seconds)} a step${rest < 0 ? `, of which host and device overlap for ${ms(-rest)}` : ''}`
  const parts = [text(MARGIN, top + 16, title, ' font-size="14"')]
  let x = MARGIN
  const bar = top + 30
  for (const { label, seconds, fill } of slices) {
    const width = seconds * scale
    parts.push(
      `<rect x="${x.toFixed(2)}" y="${bar}" width="${width.toFixed(2)}" height="${BAR}" fill="${fill}" ${STROKE}><title>${escapeXml(label)}: ${ms(seconds)}</title></rect>`,
    )
    x += width
  }
  if (rest < 0) {
    const end = (MARGIN + step.seconds * scale).toFixed(2)
    parts.push(
      `<path d="M${end} ${bar - 6}V${bar + BAR + 6}" stroke="#da1e28" stroke-width="2"><title>the step as measured: ${ms(step.seconds)}</title></path>`,
    )
  }
  // What the colours mean, in columns wide enough for the longest name of an op.
  const [columns, legend] = [3, bar + BAR + 20]
  slices.forEach(({ label, seconds, fill }, i) => {
    const left = MARGIN + ((i % columns) * (WIDTH - 2 * MARGIN)) / columns
    const y = legend + Math.floor(i / columns) * 18
    parts.push(
      `<rect x="${left.toFixed(1)}" y="${y - 10}" width="11" height="11" fill="${fill}" ${STROKE}/>`,
      text(left + 17, y, `${label} ${ms(seconds)}, ${((100 * seconds) / step.seconds).toFixed(0)} %`),
    )
  })
  return { parts, height: legend - top + Math.ceil(slices.length / columns) * 18 }
}

/** A bar per kernel; the part the device could not do without is dark, and its end marked. */
function kernelBars(kernels: readonly KernelTime[], top: number): string[] {
  const scale =
    LONGEST / Math.max(...kernels.map(({ seconds, least }) => Math.max(seconds, least?.seconds ?? 0)))
  return kernels.flatMap(({ op, kernel, count, seconds, least }, i) => {
    const y = top + i * ROW
    const end = LABELS + Math.max(seconds, least?.seconds ?? 0) * scale
    const name = `${count} x ${kernel.startsWith(op) ? kernel : `${op}, ${kernel}`}`
    const label = name.length > 46 ? `${name.slice(0, 45)}…` : name
    const figure = least
      ? `${ms(seconds)}, ${seconds > 0 ? ((100 * least.seconds) / seconds).toFixed(0) : '-'} % of its ${least.bound} limit`
      : ms(seconds)
    const at = (LABELS + (least?.seconds ?? 0) * scale).toFixed(2)
    return [
      text(LABELS - 8, y + 14, label, ' text-anchor="end"'),
      `<rect x="${LABELS}" y="${y + 2}" width="${(seconds * scale).toFixed(2)}" height="${ROW - 6}" fill="#a6c8ff" ${STROKE}/>`,
      ...(least
        ? [
            `<rect x="${LABELS}" y="${y + 2}" width="${(Math.min(seconds, least.seconds) * scale).toFixed(2)}" height="${ROW - 6}" fill="#4589ff"/>`,
            `<path d="M${at} ${y}V${y + ROW - 2}" stroke="#da1e28" stroke-width="2"/>`,
          ]
        : []),
      text(end + 8, y + 14, figure),
    ]
  })
}

/**
 * Steps as an SVG picture that needs nothing else: each as a bar of its parts, and its kernels as bars with the least time
 * the device could take marked.
 *
 * @param title of the picture: model, device
 */
export function profileSvg(title: string, steps: readonly StepProfile[]): string {
  const parts = [text(MARGIN, 26, title, ' font-size="12" fill="#525252"')]
  let top = 44
  for (const step of steps) {
    const bar = stepBar(step, top)
    parts.push(...bar.parts)
    top += bar.height + 8
    const kernels = kernelsOf(step)
    const caption = kernels.some(({ least }) => least)
      ? 'kernels; dark up to the mark: the least time their bytes and flops take on this device'
      : 'kernels'
    parts.push(text(MARGIN, top + 12, caption, ' fill="#525252"'), ...kernelBars(kernels, top + 22))
    top += 22 + kernels.length * ROW + 30
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${top}" font-family="sans-serif" font-size="11">`,
    '<rect width="100%" height="100%" fill="white"/>',
    ...parts,
    '</svg>\n',
  ].join('\n')
}
