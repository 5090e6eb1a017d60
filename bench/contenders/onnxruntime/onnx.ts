/**
 * Writes ONNX models: protobuf messages by hand, field numbers of onnx.proto (onnx/onnx on GitHub). Only what graphs of
 * tensors need: nodes, attributes, initialisers, inputs and outputs.
 */

/** Element types by onnxruntime's names, as TensorProto.DataType numbers them. */
const elementTypes = { float32: 1, uint8: 2, int32: 6, int64: 7 } as const
export type ElementType = keyof typeof elementTypes

/** A number is an int; a float says so. */
export type Attribute = number | { readonly float: number }

export interface Node {
  readonly op: string
  /** '' is ONNX itself, 'com.microsoft' are onnxruntime's own ops. */
  readonly domain?: '' | 'com.microsoft'
  /** '' where an optional input is left out. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: Readonly<Record<string, Attribute>>
}

export interface Value {
  readonly type: ElementType
  /** A name stands for a size that a run decides. */
  readonly dims: readonly (number | string)[]
}

/** Constant data, little endian, of the type's elements. */
export interface Initializer {
  readonly type: ElementType
  readonly dims: readonly number[]
  readonly data: ArrayBufferView
}

export interface Graph {
  readonly nodes: readonly Node[]
  readonly initializers: Readonly<Record<string, Initializer>>
  readonly inputs: Readonly<Record<string, Value>>
  readonly outputs: Readonly<Record<string, Value>>
}

/** Bytes of a message in pieces: weights are copied once, when the model is put together. */
type Message = readonly Uint8Array[]

const lengthOf = (message: Message): number => message.reduce((sum, piece) => sum + piece.byteLength, 0)
const join = (...messages: Message[]): Message => messages.flat()

/** Negative numbers are 64 bits of two's complement. */
function varint(value: number): number[] {
  const out: number[] = []
  let rest = BigInt.asUintN(64, BigInt(value))
  do {
    const byte = Number(rest & 127n)
    rest >>= 7n
    out.push(rest > 0n ? byte | 128 : byte)
  } while (rest > 0n)
  return out
}

/** Fields of wire types 0 (varint), 5 (32 bits) and 2 (bytes, with their length before them). */
const int = (field: number, value: number): Message => [
  Uint8Array.from([...varint(field * 8), ...varint(value)]),
]
const float = (field: number, value: number): Message => [
  Uint8Array.from([...varint(field * 8 + 5), ...new Uint8Array(Float32Array.of(value).buffer)]),
]
const nested = (field: number, message: Message): Message => [
  Uint8Array.from([...varint(field * 8 + 2), ...varint(lengthOf(message))]),
  ...message,
]
const text = (field: number, value: string): Message => nested(field, [new TextEncoder().encode(value)])

const FLOAT = 1
const INT = 2

const attributeProto = (name: string, value: Attribute): Message =>
  typeof value === 'number'
    ? join(text(1, name), int(3, value), int(20, INT))
    : join(text(1, name), float(2, value.float), int(20, FLOAT))

const nodeProto = ({ op, domain = '', inputs, outputs, attributes = {} }: Node): Message =>
  join(
    ...inputs.map((name) => text(1, name)),
    ...outputs.map((name) => text(2, name)),
    // Profiles name nodes; the first output is unique.
    text(3, outputs[0]!),
    text(4, op),
    ...Object.entries(attributes).map(([name, value]) => nested(5, attributeProto(name, value))),
    text(7, domain),
  )

const tensorProto = (name: string, { type, dims, data }: Initializer): Message =>
  join(
    ...dims.map((d) => int(1, d)),
    int(2, elementTypes[type]),
    text(8, name),
    nested(9, [new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]),
  )

const valueInfoProto = (name: string, { type, dims }: Value): Message => {
  const shape = dims.map((d) => nested(1, typeof d === 'number' ? int(1, d) : text(2, d)))
  const tensor = join(int(1, elementTypes[type]), nested(2, join(...shape)))
  return join(text(1, name), nested(2, nested(1, tensor)))
}

const graphProto = ({ nodes, initializers, inputs, outputs }: Graph): Message =>
  join(
    ...nodes.map((node) => nested(1, nodeProto(node))),
    text(2, 'bench'),
    ...Object.entries(initializers).map(([name, tensor]) => nested(5, tensorProto(name, tensor))),
    ...Object.entries(inputs).map(([name, value]) => nested(11, valueInfoProto(name, value))),
    ...Object.entries(outputs).map(([name, value]) => nested(12, valueInfoProto(name, value))),
  )

/** Versions of the op sets. */
const opsets = { '': 21, 'com.microsoft': 1 }
const IR_VERSION = 10

/** A model file's bytes. */
export function onnxModel(graph: Graph): Uint8Array {
  const opsetIds = Object.entries(opsets).map(([domain, version]) =>
    nested(8, join(text(1, domain), int(2, version))),
  )
  const model = join(int(1, IR_VERSION), nested(7, graphProto(graph)), ...opsetIds)
  const bytes = new Uint8Array(lengthOf(model))
  let at = 0
  for (const piece of model) {
    bytes.set(piece, at)
    at += piece.byteLength
  }
  return bytes
}
