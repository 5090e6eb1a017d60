import { check } from '../errors.ts'
import { elementCount } from '../tensor/type.ts'
import type { ParameterSpec } from './model.ts'

/** Elements of a tensor that lie together: `length` each, `count` times, `stride` apart. */
export interface Run {
  readonly start: number
  readonly length: number
  readonly count: number
  readonly stride: number
}

/** The part of a parameter that one tensor-parallel rank has. */
export interface Shard {
  readonly spec: ParameterSpec
  /** Shape of the part. */
  readonly shape: readonly number[]
  /** Its elements in order, by where they are in the whole parameter. */
  readonly runs: readonly Run[]
  /** Every rank has all of it. */
  readonly replicated: boolean
}

/**
 * The part of a parameter that member `member` of `size` tensor-parallel ranks has.
 *
 * @throws ExactmapError `invalid_config` when its rows or columns do not divide
 */
export function shardOf(spec: ParameterSpec, size: number, member: number): Shard {
  const { shape, split, name } = spec
  const elements = elementCount(shape)
  if (size === 1 || split === undefined)
    return { spec, shape, runs: [run(0, elements)], replicated: size > 1 }
  const [rows, columns] = [shape[0]!, shape[1] ?? 1]
  const divided = (n: number, what: string): number => {
    check(
      n % size === 0,
      'invalid_config',
      `${size} tensor-parallel ranks must divide the ${n} ${what} of ${name}; take a divisor of ${n}`,
    )
    return n / size
  }
  if (split === 'columns') {
    const own = divided(columns, 'columns')
    const runs = [{ start: member * own, length: own, count: rows, stride: columns }]
    return { spec, shape: [rows, own], runs, replicated: false }
  }
  let start = 0
  let ownRows = 0
  const runs = split.rows.map((block) => {
    const own = divided(block, 'rows')
    const at = start + member * own
    start += block
    ownRows += own
    return run(at * columns, own * columns)
  })
  check(start === rows, 'internal', `${name}: its blocks have ${start} rows, it has ${rows}`)
  return { spec, shape: [ownRows, ...shape.slice(1)], runs, replicated: false }
}

const run = (start: number, length: number): Run => ({ start, length, count: 1, stride: length })

/** Copies the part's elements out of the whole parameter. */
export function takeShard({ runs, shape }: Shard, whole: Float32Array): Float32Array {
  const part = new Float32Array(elementCount(shape))
  eachRun(runs, (from, length, at) => part.set(whole.subarray(from, from + length), at))
  return part
}

/** Copies the part's elements into the whole parameter. */
export const putShard = ({ runs }: Shard, part: Float32Array, whole: Float32Array): void =>
  putRuns(runs, part, whole)

/** Copies elements to where runs say they are in the whole tensor. */
export function putRuns(runs: readonly Run[], part: Float32Array, whole: Float32Array): void {
  eachRun(runs, (to, length, at) => whole.set(part.subarray(at, at + length), to))
}

/** Where elements `from` to `to` of a part are in the whole tensor. */
export function cutRuns(runs: readonly Run[], from: number, to: number): Run[] {
  const cut: Run[] = []
  let at = 0
  for (const { start, length, count, stride } of runs) {
    const [first, end] = [Math.max(from - at, 0), Math.min(to - at, length * count)]
    at += length * count
    if (first >= end) continue
    const piece = (row: number, begin: number, stop: number): void => {
      if (begin < stop) cut.push(run(start + row * stride + begin, stop - begin))
    }
    const [firstRow, lastRow] = [Math.floor(first / length), Math.floor((end - 1) / length)]
    if (firstRow === lastRow) {
      piece(firstRow, first - firstRow * length, end - firstRow * length)
      continue
    }
    // A part of the first row, whole rows, a part of the last.
    const wholeFrom = Math.ceil(first / length)
    const wholeTo = Math.floor(end / length)
    if (wholeFrom > firstRow) piece(firstRow, first - firstRow * length, length)
    if (wholeTo > wholeFrom)
      cut.push({ start: start + wholeFrom * stride, length, count: wholeTo - wholeFrom, stride })
    if (wholeTo === lastRow) piece(lastRow, 0, end - lastRow * length)
  }
  return cut
}

/** How many elements runs name. */
export const runElements = (runs: readonly Run[]): number =>
  runs.reduce((sum, { length, count }) => sum + length * count, 0)

function eachRun(runs: readonly Run[], body: (at: number, length: number, own: number) => void): void {
  let own = 0
  for (const { start, length, count, stride } of runs)
    for (let i = 0; i < count; i++) {
      body(start + i * stride, length, own)
      own += length
    }
}
