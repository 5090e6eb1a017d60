import { bytesOf, type Matrix, type Primitive, range, unwritten } from './primitive.ts'

/** Place of an element in a box of rows of 128 bytes: chunks of 16 bytes are exchanged by the row's number. */
const swizzled = (row: number, column: number, elements: number): number => {
  const chunk = elements / 8
  return row * elements + ((Math.floor(column / chunk) ^ (row % 8)) * chunk + (column % chunk))
}

/** A box that reaches past the matrix, as it lies in shared memory. */
function copiedBox(): Primitive {
  const [rows, width, column, row] = [70, 80, 40, 30]
  const x = Uint16Array.from({ length: rows * width }, (_, i) => i + 1)
  const y = new Uint16Array(64 * 64)
  for (const r of range(Math.min(64, rows - row)))
    for (const c of range(Math.min(64, width - column)))
      y[swizzled(r, c, 64)] = x[(row + r) * width + column + c]!
  return {
    file: 'async',
    kernel: 'copy_box',
    name: 'copy_box',
    buffers: { x: bytesOf(x), y: unwritten(2048) },
    given: { map: { buffer: 'x', format: 'bf16', rows, width, box: [64, 64] }, y: 'y', column, row },
    expected: { y: new Uint32Array(y.buffer) },
  }
}

const words = Uint32Array.from({ length: 64 }, (_, i) => i + 1)

/** Bytes as they lie. */
const copiedBytes: Primitive = {
  file: 'async',
  kernel: 'copy_bytes',
  name: 'copy_bytes',
  buffers: { x: bytesOf(words), y: unwritten(36) },
  given: { x: 'x', y: 'y', first: 32, bytes: 144 },
  expected: { y: words.slice(8, 44) },
}

/** A box is stored, or added, as far as the matrix reaches. */
function storedBox(name: string, add: number): Primitive {
  const [rows, width, column, row] = [20, 40, 24, 10]
  const x = Float32Array.from({ length: rows * width }, (_, i) => i)
  return {
    file: 'async',
    kernel: 'store_box',
    name,
    buffers: { x: bytesOf(x), seen: unwritten(2) },
    given: {
      map: { buffer: 'x', format: 'f32', rows, width, box: [16, 32] },
      matrix: 'x',
      seen: 'seen',
      ...{ column, row, add },
    },
    expected: {
      x: x.map((before, i) => {
        const [r, c] = [Math.floor(i / width) - row, (i % width) - column]
        return r < 0 || r >= 16 || c < 0 || c >= 32 ? before : 100 * r + c + add * before
      }),
    },
  }
}

/** Two blocks bring halves of boxes to both of them. */
function sharedBoxes(): Primitive {
  const [rows, width] = [64, 256]
  const x = Uint16Array.from({ length: rows * width }, (_, i) => i)
  const matrix: Matrix = { buffer: 'x', format: 'bf16', rows, width, box: [32, 64] }
  const y = new Uint16Array(2 * 4 * 64 * 64)
  for (const box of range(8))
    for (const r of range(64))
      for (const c of range(64)) y[box * 4096 + swizzled(r, c, 64)] = x[r * width + (box % 4) * 64 + c]!
  return {
    file: 'async',
    kernel: 'share_boxes',
    name: 'share_boxes',
    grid: 2,
    buffers: { x: bytesOf(x), y: unwritten(y.length / 2) },
    given: { map: matrix, y: 'y' },
    expected: { y: new Uint32Array(y.buffer) },
  }
}

/** Kernels of (y) alone. */
const alone = (kernel: string, y: number[]): Primitive => ({
  file: 'async',
  kernel,
  name: kernel,
  buffers: { y: unwritten(y.length) },
  given: { y: 'y' },
  expected: { y: Uint32Array.from(y) },
})

/** Blocks that wait for one another by a counter in device memory. */
const relay: Primitive = {
  file: 'async',
  kernel: 'relay',
  name: 'relay',
  grid: 16,
  buffers: { y: unwritten(16), counter: new Uint8Array(4) },
  given: { y: 'y', counter: 'counter' },
  expected: { y: Uint32Array.from(range(16), (i) => (i * (i + 1)) / 2) },
}

export const asyncPrimitives: readonly Primitive[] = [
  copiedBytes,
  copiedBox(),
  storedBox('store_box', 0),
  storedBox('add_box', 1),
  alone('phases', [1, 2, 3, 4, 5, 6]),
  alone('registers', range(384)),
  alone(
    'meet',
    range(128).map((thread) => (thread < 64 ? 10 + 20 + 30 : 11)),
  ),
  relay,
  sharedBoxes(),
]
