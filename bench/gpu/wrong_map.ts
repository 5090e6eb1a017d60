import { opContract } from '../../src/ops/index.ts'
import { formatOf } from '../../src/tensor/format.ts'
import { elementCount, lastDim, rowCount } from '../../src/tensor/type.ts'
import { vectorCall } from '../../src/verify/run.ts'
import { decodeTensor, type Vector } from '../../src/verify/vector.ts'

/** An output as a matrix, and which of its elements are outside their budgets. */
export interface WrongElements {
  readonly shape: string
  readonly rows: number
  readonly columns: number
  readonly want: Float64Array
  readonly got: Float64Array
  readonly wrong: readonly number[]
}

/** Compares an output as a device gave it with the stored one. */
export function wrongElements(vector: Vector, output: string, bytes: Uint8Array): WrongElements {
  const expected = vector.outputs[output]!
  const { type } = expected
  const decode = (tensors: Vector['inputs']) =>
    Object.fromEntries(Object.entries(tensors).map(([port, tensor]) => [port, decodeTensor(tensor)]))
  const outputs = decode(vector.outputs)
  const tolerance = opContract(vector.op).tolerance(vectorCall(vector), decode(vector.inputs), outputs)[
    output
  ]!
  const want = outputs[output]!
  const got = formatOf(type.format).decode(bytes, elementCount(type.shape))
  const wrong = [...want.keys()].filter((i) => {
    const off = Math.abs(got[i]! - want[i]!)
    return !Object.is(got[i], want[i]) && !(off <= tolerance(i))
  })
  const shape = `${type.format}[${type.shape}]`
  return { shape, rows: rowCount(type.shape), columns: lastDim(type.shape), want, got, wrong }
}

/** Cells of a map at most. */
const [HIGH, WIDE] = [48, 96]
const LISTED = 8

/** Some wrong elements, and a map: how many elements of each cell are wrong, `.` none, 1 to 9 tenths, `#` all. */
export function wrongText({ shape, rows, columns, want, got, wrong }: WrongElements): string {
  const [high, wide] = [Math.ceil(rows / HIGH), Math.ceil(columns / WIDE)]
  const cells = Array.from({ length: Math.ceil(rows / high) }, () =>
    new Array<number>(Math.ceil(columns / wide)).fill(0),
  )
  for (const i of wrong) cells[Math.floor(i / columns / high)]![Math.floor((i % columns) / wide)]!++
  const size = (cell: number, step: number, all: number): number => Math.min(step, all - cell * step)
  const map = cells.map((line, y) =>
    line
      .map((count, x) => {
        const share = count / (size(y, high, rows) * size(x, wide, columns))
        return share === 0 ? '.' : share === 1 ? '#' : `${Math.max(1, Math.floor(10 * share))}`
      })
      .join(''),
  )
  const listed = wrong
    .slice(0, LISTED)
    .map((i) => `  [${Math.floor(i / columns)}, ${i % columns}] expected ${want[i]}, got ${got[i]}`)
  return [
    `${shape}: ${wrong.length} of ${want.length} elements are wrong; a cell is ${high} x ${wide}`,
    ...listed,
    ...map,
  ].join('\n')
}
