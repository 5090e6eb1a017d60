import { describe, expect, it } from 'vitest'
import type { CudaDevice } from '../../backends/cuda/device.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { normal } from '../../src/ops/cases.ts'
import { opContract } from '../../src/ops/index.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import { makeVector } from '../../src/verify/vector.ts'

/** A matmul compiled for few multiprocessors. */
export interface Rounds {
  readonly multiprocessors: number
  readonly shape: readonly [rows: number, columns: number, depth: number]
  readonly format: FormatName
  readonly attrs?: object
  readonly variant: string
  readonly kernels: readonly string[]
}

/**
 * Runs products compiled for fewer multiprocessors than a GPU has, so that a block of the persistent grid has several
 * tiles and goes round its ring of stages several times: shapes that need that on all of them are too large to emulate.
 */
export function describeRounds(
  kernel: string,
  device: CudaDevice | string,
  traits: keyof typeof cudaTraits,
  cases: Readonly<Record<string, Rounds>>,
): void {
  describe(`${kernel} on few multiprocessors`, () => {
    for (const [name, { multiprocessors, shape, format, attrs = {}, variant, kernels }] of Object.entries(
      cases,
    ))
      it(name, async (ctx) => {
        if (typeof device === 'string') return ctx.skip(device)
        const [rows, columns, depth] = shape
        const vector = makeVector(opContract('matmul'), {
          name,
          attrs,
          inputs: {
            x: normal([rows, depth], 1, format),
            w: normal([columns, depth], 0.1, format),
            bias: normal([columns], 1, 'bf16'),
            residual: normal([rows, columns]),
          },
        })
        const target = cudaTarget({ ...cudaTraits[traits]!, multiprocessors }, readCudaSources())
        const program = vectorProgram({ ...vector, variant }, target)
        expect(program.kernels.map((k) => k.name)).toEqual(kernels)
        const executable = await device.load(program)
        const given = Object.entries(vector.inputs).map(([port, { bytes }]) => [port, bytes] as const)
        const got = await executable.step('main', Object.fromEntries(given))
        executable.destroy()
        expect(compareOutputs(vector, got).wrong).toBeUndefined()
      })
  })
}
