import { evaluate } from '../../backends/reference/evaluate.ts'
import { check } from '../errors.ts'
import { seedOf } from '../ops/cases.ts'
import type { Case, OpContract } from '../ops/contract.ts'
import { checkCall } from '../ops/index.ts'
import { Graph } from '../program/graph.ts'
import { formatOf } from '../tensor/format.ts'
import { Philox } from '../tensor/philox.ts'
import { elementCount } from '../tensor/type.ts'
import { differentiate } from '../train/autodiff.ts'
import { decodeTensor, makeVector } from './vector.ts'

/** Elements of an input above which finite differences take too long: each costs two evaluations. */
const SMALL = 400
const STEP = 1e-5

/** An element of an input whose gradient by the contract's rule differs from the finite difference. */
export interface WrongGradient {
  readonly port: string
  readonly index: number
  readonly rule: number
  readonly difference: number
  /** Largest |rule - difference| that finite differences explain. */
  readonly budget: number
}

/** Cases of a contract that `checkGradient` can do; empty for an op that states it has no gradient. */
export const gradientCases = (contract: OpContract): readonly Case[] =>
  'none' in contract.gradient && typeof contract.gradient.none === 'string'
    ? []
    : contract.cases.filter(
        ({ attrs, inputs }) =>
          Object.values(inputs).every((i) => elementCount(i.shape) <= SMALL) &&
          // Graphs are differentiated before a recipe rounds their results.
          Object.values(checkCall(contract, attrs, inputs).outputs).every(({ format }) => format === 'f32'),
      )

/**
 * Compares a contract's gradient rules with central differences of its float64 reference, every element of every
 * float input that has a rule. The loss is the sum of a random factor times each f32 output element.
 *
 * @returns the first wrong element, or undefined
 * @throws ExactmapError `not_found` when a rule gives no gradient
 */
export function checkGradient(contract: OpContract, one: Case): WrongGradient | undefined {
  const vector = makeVector(contract, one)
  const forward = new Graph(contract.name)
  const name = (port: string): string => vector.same[port] ?? port
  const inputs = Object.fromEntries(
    Object.entries(vector.inputs).map(([p, t]) => [p, forward.input(name(p), t.type)]),
  )
  const outputs = forward.segment('forward', () => forward.op(vector.op, vector.attrs, inputs))
  const wanted = Object.keys(contract.gradient).filter(
    (p) => inputs[p] && formatOf(inputs[p]!.type.format).kind === 'float',
  )
  const roots = Object.entries(outputs)
    .filter(([p, v]) => v.type.format === 'f32' && !contract.outputs[p]!.doc.includes('no gradient'))
    .map(([p, v]) => ({ value: v.id, seed: `seed.${p}` }))
  const given: Record<string, Float64Array> = {}
  for (const [p, t] of Object.entries(vector.inputs)) given[name(p)] = decodeTensor(t)
  for (const { value, seed } of roots) {
    const random = new Philox(seedOf(seed))
    const { shape } = forward.value(value).type
    given[seed] = Float64Array.from({ length: elementCount(shape) }, () => random.normal())
  }
  const graph = differentiate(forward, { roots, inputs: [...new Set(wanted.map((p) => inputs[p]!.id))] })
  const all = evaluate(graph, given)
  const loss = (): number => {
    const values = evaluate(forward, given)
    return roots.reduce(
      (sum, r) => sum + values.get(r.value)!.reduce((s, v, i) => s + v * given[r.seed]![i]!, 0),
      0,
    )
  }
  for (const port of new Set(wanted.map(name))) {
    const output = graph.outputs.find((o) => o.name === `d.${port}`)
    check(output, 'not_found', () => `${contract.name}/${one.name}: no gradient came for input '${port}'`)
    const gradient = all.get(output.value)!
    const x = given[port]!
    const scale = Math.max(1e-3, ...gradient.map(Math.abs))
    for (let index = 0; index < x.length; index++) {
      const before = x[index]!
      const h = STEP * Math.max(1, Math.abs(before))
      x[index] = before + h
      const up = loss()
      x[index] = before - h
      const down = loss()
      x[index] = before
      const difference = (up - down) / (2 * h)
      // Central differences are good to h^2 times the third derivative plus rounding of the loss / h.
      const budget = 1e-5 * scale + (1e-14 * (Math.abs(up) + Math.abs(down))) / h
      const rule = gradient[index]!
      // Not `>`: a NaN is wrong too.
      if (!(Math.abs(difference - rule) < budget)) return { port, index, rule, difference, budget }
    }
  }
  return undefined
}
