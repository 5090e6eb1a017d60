import { describe, expect, it } from 'vitest'
import type { CudaDevice } from '../../backends/cuda/device.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { normal, values } from '../../src/ops/cases.ts'
import { opContract } from '../../src/ops/index.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { compareOutputs, vectorProgram } from '../../src/verify/run.ts'
import { makeVector } from '../../src/verify/vector.ts'

type Shape = readonly [rows: number, columns: number, depth: number]

/** Of five, with rows of none before and behind: past a tile, one, none, two tiles, the others. */
const experts = (rows: number) => values([6], [2, 140, 141, 141, 280, rows - 11], 'u32')

/** What each product is of. */
const operands = {
  matmul: ([rows, columns, depth]: Shape, format: FormatName) => ({
    x: normal([rows, depth], 1, format),
    w: normal([columns, depth], 0.1, format),
    bias: normal([columns], 1, 'bf16'),
    residual: normal([rows, columns]),
  }),
  matmul_plain: ([rows, columns, depth]: Shape, format: FormatName) => ({
    x: normal([rows, depth], 1, format),
    w: normal([columns, depth], 0.1, format),
  }),
  matmul_backward_input: ([rows, columns, depth]: Shape, format: FormatName) => ({
    dy: normal([rows, depth], 1, format),
    w: normal([depth, columns], 0.1, format),
  }),
  matmul_backward_weight: ([rows, columns, depth]: Shape, format: FormatName) => ({
    accumulator: normal([rows, columns]),
    dy: normal([depth, rows], 1, format),
    x: normal([depth, columns], 1, format),
  }),
  matmul_grouped: ([rows, columns, depth]: Shape, format: FormatName) => ({
    x: normal([rows, depth], 1, format),
    offsets: experts(rows),
    w: normal([5, columns, depth], 0.1, format),
  }),
  matmul_grouped_backward_input: ([rows, columns, depth]: Shape, format: FormatName) => ({
    dy: normal([rows, depth], 1, format),
    offsets: experts(rows),
    w: normal([5, depth, columns], 0.1, format),
  }),
}

/** A product compiled for few multiprocessors. */
export interface Rounds {
  /** matmul with all its inputs where not said. */
  readonly of?: keyof typeof operands
  readonly multiprocessors: number
  readonly shape: Shape
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
    for (const [name, { of = 'matmul', shape, format, ...rest }] of Object.entries(cases))
      it(name, async (ctx) => {
        if (typeof device === 'string') return ctx.skip(device)
        const { multiprocessors, attrs = {}, variant, kernels } = rest
        const inputs = operands[of](shape, format)
        const op = of === 'matmul_plain' ? 'matmul' : of
        const vector = makeVector(opContract(op), { name, attrs, inputs })
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
