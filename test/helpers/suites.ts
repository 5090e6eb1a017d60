import { describe, expect, it } from 'vitest'
import type { Device } from '../../backends/backend.ts'
import type { OpContract } from '../../src/ops/contract.ts'
import { checkGradient, gradientCases } from '../../src/verify/gradient.ts'
import { type Vector, vectorId } from '../../src/verify/vector.ts'
import { checkVector, type NewTexts } from './check_vector.ts'

/** Tests of an op on WebGPU: its vectors through compile, load and step, one test each. */
export function conformanceSuite(
  contract: OpContract,
  vectors: readonly Vector[],
  deviceFor: (vector: Vector) => Device,
  bare: NewTexts,
): void {
  describe(`${contract.name}/`, () => {
    it('has a vector for every case', () => {
      expect(vectors.map((vector) => vector.name).sort()).toEqual(contract.cases.map((c) => c.name).sort())
    })
    for (const vector of vectors)
      it(vectorId(vector), async () => {
        expect(await checkVector(deviceFor(vector), bare, vector)).toBe('')
      })
  })
}

/** Tests of an op's gradient rules against finite differences of its reference, one per case that is small enough. */
export function gradientSuite(contract: OpContract): void {
  const cases = gradientCases(contract)
  describe(`gradient of ${contract.name}`, () => {
    it('has a case small enough for finite differences', () => expect(cases.length).toBeGreaterThan(0))
    for (const one of cases)
      it(`${contract.name}/${one.name}`, () => {
        expect(checkGradient(contract, one)).toBeUndefined()
      })
  })
}
