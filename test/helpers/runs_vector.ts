import { expect } from 'vitest'
import type { Device } from '../../backends/backend.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import type { Vector } from '../../src/verify/vector.ts'

/** Runs a vector; also checks that kernels left alone what is not theirs: inputs, and the bytes between tensors. */
export async function runsVector(on: Device, vector: Vector): Promise<void> {
  const program = vectorProgram(vector, on.target)
  const executable = await on.load(program)
  try {
    const { activations, step_input } = executable.arenas
    activations!.fill(255)
    const given = Object.entries(vector.inputs).filter(([port]) => !(port in vector.same))
    const got = await executable.step('main', Object.fromEntries(given.map(([port, t]) => [port, t.bytes])))
    const { wrong } = compareOutputs(vector, got)
    expect(wrong && { ...wrong, kernels: program.kernels.map((k) => k.name) }).toBeUndefined()
    for (const { name, offset, bytes } of step_input!.plan.tensors) {
      const after = await step_input!.read(offset, bytes)
      expect(Buffer.compare(after, vector.inputs[name]!.bytes), `input ${name} was overwritten`).toBe(0)
    }
    const all = await activations!.read(0, activations!.plan.bytes)
    for (const { offset, bytes } of activations!.plan.tensors) all.fill(255, offset, offset + bytes)
    expect(
      all.findIndex((byte) => byte !== 255),
      'a byte of the activations that belongs to no tensor was written',
    ).toBe(-1)
  } finally {
    executable.destroy()
  }
}
