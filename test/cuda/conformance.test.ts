import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { Device } from '../../backends/backend.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { allOps } from '../../src/ops/index.ts'
import { compareOutputs, vectorProgram, withVariants } from '../../src/verify/run.ts'
import { readVector, storedCases } from '../../src/verify/store.ts'
import type { Vector } from '../../src/verify/vector.ts'
import { emulatedDevice } from '../helpers/cuda.ts'

// Every stored vector on the emulated CUDA device: the runtime and kernels that run on GPUs. A kernel whose threads
// wait for each other is run in three thread orders by three processes: EXACTMAP_EMULATED_ORDER=forward, reverse and
// shuffle:<seed> (a missing barrier shows only when the order changes).
const root = join(packageRoot(), 'test', 'vectors')
const device = await emulatedDevice()

afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

/** Runs a vector; also checks that kernels left alone what is not theirs: inputs, and the bytes between tensors. */
async function check(on: Device, vector: Vector): Promise<void> {
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

for (const { name: op } of allOps())
  describe(`cuda-emulated ${op}/`, () => {
    for (const name of storedCases(root, op))
      it(`${op}/${name}`, async (ctx) => {
        if (typeof device === 'string') return ctx.skip(device)
        const vector = await readVector(root, op, name)
        for (const one of withVariants([vector], device.target)) await check(device, one)
      })
  })
