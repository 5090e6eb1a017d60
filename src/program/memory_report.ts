import { ExactmapError } from '../errors.ts'
import { escapeXml } from '../formats/xml.ts'
import { alignTensor, TENSOR_ALIGNMENT } from './layout.ts'
import { liveBytes } from './memory_plan.ts'
import type { ArenaKind, ArenaPlan, Program, TensorPlan } from './program.ts'

/** Bytes of one arena. */
export interface ArenaReport {
  readonly kind: ArenaKind
  readonly external: boolean
  readonly bytes: number
  readonly buffers: number
  readonly tensors: number
  /** Fewest bytes that hold the tensors: for activations the largest sum alive at one op, else all of them. */
  readonly lowerBound: number
}

/** Memory of a program. All of it is allocated when the program is loaded, so the peak is the sum of the arenas. */
export interface MemoryReport {
  readonly arenas: readonly ArenaReport[]
  readonly peak: number
  readonly lowerBound: number
  /** (peak - lowerBound) / lowerBound, in percent. */
  readonly overheadPercent: number
  /** The same for the activation arena alone, where the planner has a choice; 0 without one. */
  readonly activationOverheadPercent: number
}

/** Exact bytes per arena, their sum, and how far that is from what any plan would need. Needs no device. */
export function memoryReport(program: Program): MemoryReport {
  const arenas = program.arenas.map(
    (arena): ArenaReport => ({
      kind: arena.kind,
      external: arena.external,
      bytes: arena.bytes,
      buffers: arena.buffers.length,
      tensors: arena.tensors.length,
      lowerBound: lowerBound(arena, program.slots),
    }),
  )
  const peak = arenas.reduce((sum, a) => sum + a.bytes, 0)
  const least = arenas.reduce((sum, a) => sum + a.lowerBound, 0)
  const activations = arenas.find((a) => a.kind === 'activations')
  return {
    arenas,
    peak,
    lowerBound: least,
    overheadPercent: overhead(peak, least),
    activationOverheadPercent: activations ? overhead(activations.bytes, activations.lowerBound) : 0,
  }
}

/**
 * Refuses a program whose arenas (but for those `given` by the caller) need more than `available` bytes.
 * @throws ExactmapError `out_of_memory` with the table of arenas
 */
export function requireMemory(program: Program, available: number, given: readonly string[]): void {
  const own = program.arenas.filter((a) => !given.includes(a.kind))
  const needed = own.reduce((sum, a) => sum + a.bytes, 0)
  if (needed <= available) return
  const table = own.map((a) => `  ${a.kind.padEnd(12)} ${String(a.bytes).padStart(16)} bytes`)
  throw new ExactmapError(
    'out_of_memory',
    `the program needs ${needed} bytes, the device has ${available}:\n${table.join('\n')}\nTry a smaller context or batch, or weights in a smaller format`,
    { program: program.name },
  )
}

const overhead = (bytes: number, least: number): number => (least > 0 ? (100 * (bytes - least)) / least : 0)

/** Without the padding between tensors, which is part of the overhead; activations are counted as the planner does. */
function lowerBound(arena: ArenaPlan, slots: number): number {
  if (arena.kind !== 'activations') return arena.tensors.reduce((sum, t) => sum + t.bytes, 0)
  const lives = arena.tensors.map(({ bytes, live }) => ({ bytes, first: live![0], last: live![1] }))
  return liveBytes(lives, TENSOR_ALIGNMENT) * (arena.slotBytes ? slots : 1)
}

/** Where on the axis of ops each segment begins. Lifetimes count ops; an op of several launches counts once. */
function axis(program: Program): { name: string; first: number; count: number }[] {
  let first = 0
  return program.segments.map(({ name, steps }) => {
    const count = steps.filter((s) => s.kind !== 'launch' || s.part[0] === 0).length
    const at = { name, first, count }
    first += count
    return at
  })
}

interface Picture {
  readonly segments: readonly { name: string; first: number; count: number }[]
  readonly ops: number
  readonly bytes: number
  readonly tensors: readonly (TensorPlan & { readonly live: readonly [number, number] })[]
}

function picture(program: Program): Picture | undefined {
  const arena = program.arenas.find((a) => a.kind === 'activations')
  if (!arena) return undefined
  const segments = axis(program)
  const tensors = arena.tensors.filter((t): t is Picture['tensors'][number] => t.live !== undefined)
  const ops = Math.max(
    1,
    segments.reduce((sum, s) => sum + s.count, 0),
    ...tensors.map((t) => t.live[1] + 1),
  )
  return { segments, ops, bytes: arena.slotBytes || arena.bytes, tensors }
}

const SHADES = ' ░▒▓█'

/**
 * The activation arena over time for a terminal: columns are ops from left to right, rows are addresses from low
 * (top) to high; a cell's shade is the share of its bytes x ops that holds something alive. Segment borders are
 * marked below.
 */
export function lifetimePicture(program: Program, width = 100, height = 20): string {
  const all = picture(program)
  if (!all) return 'no activations\n'
  const { segments, ops, bytes, tensors } = all
  const columns = Math.min(width, ops)
  const rows = Math.min(height, Math.max(1, Math.ceil(bytes / TENSOR_ALIGNMENT)))
  const cells = Array.from({ length: rows }, () => new Float64Array(columns))
  const [perColumn, perRow] = [ops / columns, bytes / rows]
  const shared = (low: number, high: number, from: number, to: number): number =>
    Math.max(0, Math.min(high, to) - Math.max(low, from))
  for (const { offset, bytes: size, live } of tensors) {
    const [left, right] = [live[0], live[1] + 1]
    const [top, bottom] = [offset, offset + alignTensor(size)]
    for (let r = Math.floor(top / perRow); r < Math.min(rows, Math.ceil(bottom / perRow)); r++)
      for (let c = Math.floor(left / perColumn); c < Math.min(columns, Math.ceil(right / perColumn)); c++)
        cells[r]![c]! +=
          shared(r * perRow, (r + 1) * perRow, top, bottom) *
          shared(c * perColumn, (c + 1) * perColumn, left, right)
  }
  const shade = (share: number): string =>
    share === 0
      ? SHADES[0]!
      : SHADES[Math.min(SHADES.length - 1, 1 + Math.floor(share * (SHADES.length - 1)))]!
  const label = (r: number): string => String(Math.round(r * perRow)).padStart(String(bytes).length)
  const lines = cells.map(
    (row, r) => `${label(r)} |${[...row].map((x) => shade(x / (perColumn * perRow))).join('')}|`,
  )
  const indent = ' '.repeat(String(bytes).length + 2)
  const ruler = Array.from({ length: columns }, () => ' ')
  for (const { first } of segments) ruler[Math.min(columns - 1, Math.floor(first / perColumn))] = '^'
  return [
    ...lines,
    `${indent}${ruler.join('')}`,
    `${indent}${segments.map((s) => `${s.name} from op ${s.first}`).join(', ')}`,
    '',
  ].join('\n')
}

const COLOURS = ['#4c78a8', '#f58518', '#54a24b', '#b79a20', '#e45756', '#72b7b2', '#b279a2', '#9d755d']

/** The same exactly, as an SVG: one rectangle a tensor, with its name, type and bytes as its title. */
export function lifetimeSvg(program: Program): string {
  const all = picture(program)
  const [width, height, margin] = [1200, 600, 40]
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width + 2 * margin} ${height + 2 * margin}" font-family="sans-serif" font-size="12">`
  if (!all) return `${head}<text x="${margin}" y="${margin}">no activations</text></svg>\n`
  const { segments, ops, bytes, tensors } = all
  const x = (op: number): string => (margin + (op / ops) * width).toFixed(2)
  const y = (at: number): string => (margin + (at / bytes) * height).toFixed(2)
  const rects = tensors.map(({ name, type, offset, bytes: size, live }, i) => {
    const [w, h] = [((live[1] + 1 - live[0]) / ops) * width, (size / bytes) * height]
    const title = `${name}: ${type.format}[${type.shape.join(',')}], ${size} bytes at ${offset}, ops ${live[0]} to ${live[1]}`
    return `<rect x="${x(live[0])}" y="${y(offset)}" width="${w.toFixed(2)}" height="${Math.max(0.2, h).toFixed(2)}" fill="${COLOURS[i % COLOURS.length]}"><title>${escapeXml(title)}</title></rect>`
  })
  const borders = segments.map(
    ({ name, first }) =>
      `<line x1="${x(first)}" y1="${margin}" x2="${x(first)}" y2="${margin + height}" stroke="black" stroke-width="0.5"/><text x="${x(first)}" y="${margin + height + 16}">${escapeXml(name)}</text>`,
  )
  const frame = `<rect x="${margin}" y="${margin}" width="${width}" height="${height}" fill="none" stroke="black"/>`
  const title = `<text x="${margin}" y="${margin - 12}">${escapeXml(program.name)}: ${bytes} bytes of activations over ${ops} ops</text>`
  return `${[head, title, ...rects, ...borders, frame, '</svg>'].join('\n')}\n`
}
