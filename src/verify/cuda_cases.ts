import type { CaseFile } from '../../backends/cuda/case_file.ts'
import { encodeProgramFile } from '../../backends/cuda/program_file.ts'
import type { CudaTarget } from '../../backends/cuda/target.ts'
import type { Walkers } from '../../backends/cuda/walker.ts'
import { check } from '../errors.ts'
import type { Attributes, OpCall } from '../ops/contract.ts'
import { checkCall, opContract } from '../ops/index.ts'
import { compile } from '../program/compile.ts'
import { Graph } from '../program/graph.ts'
import type { Program } from '../program/program.ts'
import { formatOf } from '../tensor/format.ts'
import { byteSize, elementCount, type TensorType } from '../tensor/type.ts'
import { vectorBytes, vectorCall, vectorProgram } from './run.ts'
import { decodeTensor, type Vector, vectorId } from './vector.ts'

/** A stored vector as `exactmap-cuda verify` takes it: compiled, with the budget of every element. */
export function cudaCase(vector: Vector, target: CudaTarget): { file: CaseFile; program: Program } {
  const program = vectorProgram(vector, target)
  const inputs = program.segments[0]!.inputs
  const begin = Math.min(...inputs.map((i) => i.offset))
  const bytes = new Uint8Array(Math.max(...inputs.map((i) => i.offset + i.bytes)) - begin)
  for (const { name, offset } of inputs) bytes.set(vector.inputs[name]!.bytes, offset - begin)

  const decoded = (tensors: Vector['inputs']) =>
    Object.fromEntries(Object.entries(tensors).map(([port, t]) => [port, decodeTensor(t)]))
  const call = vectorCall(vector)
  const contract = opContract(vector.op)
  const tolerance = contract.tolerance(call, decoded(vector.inputs), decoded(vector.outputs))
  const outputs = program.segments[0]!.outputs.map(({ name, type }) => {
    const elements = elementCount(type.shape)
    // An error budget is for elements: blocks share a scale, and are exact.
    const single = formatOf(type.format).blockSize === 1
    const tolerances = Float32Array.from({ length: single ? elements : 0 }, (_, i) => tolerance[name]!(i))
    return {
      name,
      format: type.format,
      elements,
      expected: vector.outputs[name]!.bytes,
      ...(tolerances.some((t) => t > 0) ? { tolerances } : {}),
    }
  })
  return {
    program,
    file: {
      id: vectorId(vector),
      bytes: vectorBytes(vector),
      flops: contract.flops(call),
      program: encodeProgramFile(program, target),
      inputs: { offset: begin, bytes },
      outputs,
    },
  }
}

/** What is timed: an op at a size of real models, its inputs seeded on the device. */
export interface SpeedCase {
  /** What names it in the record, e.g. `4096x4096x4096_f16`. */
  readonly name: string
  readonly op: string
  readonly attrs?: Attributes
  readonly inputs: Readonly<Record<string, TensorType>>
  /** Inputs that are indices or options: every element of them. */
  readonly given?: Readonly<Record<string, Uint32Array | Float32Array>>
}

/** What is timed, as a call of its op. */
export const speedCall = ({ op, attrs, inputs }: SpeedCase): OpCall =>
  checkCall(opContract(op), attrs ?? {}, inputs)

/** A case that is only timed. All inputs lie in an external arena, so that ops write in place as in real programs. */
export function cudaSpeedCase(one: SpeedCase, target: CudaTarget): { file: CaseFile; program: Program } {
  const graph = new Graph(`${one.op}/${one.name}`)
  const inputs = Object.fromEntries(
    Object.entries(one.inputs).map(([port, type]) => [port, graph.external('weights', port, type)]),
  )
  graph.op(one.op, one.attrs ?? {}, inputs)
  const program = compile(graph, target, { portable: true })
  const call = speedCall(one)
  const operands = [...Object.values(call.inputs), ...Object.values(call.outputs)]
  const arena = 'weights'
  const tensors = program.arenas.find((a) => a.kind === arena)!.tensors
  const given = tensors.filter((t) => one.given?.[t.name])
  return {
    program,
    file: {
      id: `${one.op}/${one.name}`,
      bytes: operands.reduce((sum, type) => sum + byteSize(type), 0),
      flops: opContract(one.op).flops(call),
      program: encodeProgramFile(program, target),
      inputs: { offset: 0, bytes: new Uint8Array(0) },
      initial: given.map(({ name, offset }) => {
        const { buffer, byteOffset, byteLength } = one.given![name]!
        return { arena, offset, bytes: new Uint8Array(buffer, byteOffset, byteLength) }
      }),
      fills: tensors
        .filter((t) => !given.includes(t))
        .map(({ offset, type }, i) => ({
          arena,
          offset,
          format: type.format,
          elements: elementCount(type.shape),
          seed: i + 1,
        })),
      outputs: [],
    },
  }
}

/** A whole program that is only timed, segment by segment: a decode step, a training step. */
export interface ProgramCase {
  /** `kind/name`. */
  readonly id: string
  readonly program: Program
  /** Every input of its segments. */
  readonly given: Readonly<Record<string, Uint32Array | Float32Array>>
  /** What must be moved and computed at least. */
  readonly bytes: number
  readonly flops: number
}

/** Weights, caches and states that are numbers are seeded; moments and gradients begin at zero, as in training. */
const seeded = new Set(['weights', 'parameters', 'kv'])

/** @param walkers segments that run as one kernel */
export function cudaProgramCase(
  one: ProgramCase,
  target: CudaTarget,
  walkers: Walkers = new Map(),
): CaseFile {
  const { id, program, given, bytes, flops } = one
  const room = program.arenas.find((a) => a.kind === 'step_input')
  const inputs = new Uint8Array(room?.bytes ?? 0)
  for (const segment of program.segments)
    for (const { name, offset, type } of segment.inputs) {
      const values = given[name]
      check(values, 'not_found', () => `${id}: input '${name}' of segment '${segment.name}' is not given`)
      check(values.byteLength === byteSize(type), 'invalid_shape', () => {
        const shape = `${type.format}[${type.shape}]`
        return `${id}: input '${name}' is ${shape}, ${byteSize(type)} bytes, got ${values.byteLength}`
      })
      inputs.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset)
    }
  return {
    id,
    bytes,
    flops,
    program: encodeProgramFile(program, target, walkers),
    inputs: { offset: 0, bytes: inputs },
    fills: program.arenas
      .filter(({ kind }) => seeded.has(kind))
      .flatMap(({ kind, tensors }) => tensors.map((tensor) => ({ ...tensor, arena: kind })))
      .map(({ arena, offset, type }, i) => ({
        arena,
        offset,
        format: type.format,
        elements: elementCount(type.shape),
        seed: i + 1,
      })),
    outputs: [],
  }
}
