import type { CaseFile } from '../../backends/cuda/case_file.ts'
import { encodeProgramFile } from '../../backends/cuda/program_file.ts'
import type { CudaTarget } from '../../backends/cuda/target.ts'
import { opContract } from '../ops/index.ts'
import type { Program } from '../program/program.ts'
import { formatOf } from '../tensor/format.ts'
import { elementCount } from '../tensor/type.ts'
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
