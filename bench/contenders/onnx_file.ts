/** A minimal ONNX writer: one MatMul with a constant right operand, as a model file holds a linear layer. */

function varint(value: number): number[] {
  const out: number[] = []
  let rest = BigInt(value)
  do {
    const byte = Number(rest & 127n)
    rest >>= 7n
    out.push(rest > 0n ? byte | 128 : byte)
  } while (rest > 0n)
  return out
}

/** Protobuf field of wire type 0 (number) or 2 (bytes). */
const number = (field: number, value: number): Buffer => Buffer.from([...varint(field * 8), ...varint(value)])
const bytes = (field: number, value: Buffer | string): Buffer => {
  const data = typeof value === 'string' ? Buffer.from(value) : value
  return Buffer.concat([Buffer.from([...varint(field * 8 + 2), ...varint(data.length)]), data])
}
const message = (...fields: Buffer[]): Buffer => Buffer.concat(fields)

const FLOAT = 1

const valueInfo = (name: string, dims: readonly number[]): Buffer => {
  const shape = message(...dims.map((d) => bytes(1, number(1, d))))
  return message(bytes(1, name), bytes(2, bytes(1, message(number(1, FLOAT), bytes(2, shape)))))
}

/** c[rows, columns] = a[rows, depth] b[depth, columns], b stored in the model. IR version 8, opset 17. */
export function matmulModel(rows: number, depth: number, columns: number, b: Float32Array): Uint8Array {
  const raw = Buffer.from(b.buffer, b.byteOffset, b.byteLength)
  const tensor = message(number(1, depth), number(1, columns), number(2, FLOAT), bytes(8, 'b'), bytes(9, raw))
  const node = message(bytes(1, 'a'), bytes(1, 'b'), bytes(2, 'c'), bytes(3, 'matmul'), bytes(4, 'MatMul'))
  const graph = message(
    bytes(1, node),
    bytes(2, 'matmul'),
    bytes(5, tensor),
    bytes(11, valueInfo('a', [rows, depth])),
    bytes(12, valueInfo('c', [rows, columns])),
  )
  return message(number(1, 8), bytes(7, graph), bytes(8, message(bytes(1, ''), number(2, 17))))
}
