import { describe, expect, it } from 'vitest'
import { evaluate } from '../../backends/reference/evaluate.ts'
import { seedOf } from '../../src/ops/cases.ts'
import { allOps } from '../../src/ops/index.ts'
import { Graph } from '../../src/program/graph.ts'
import { formatOf } from '../../src/tensor/format.ts'
import { Philox } from '../../src/tensor/philox.ts'
import { elementCount } from '../../src/tensor/type.ts'
import { differentiate } from '../../src/train/autodiff.ts'
import { decodeTensor, makeVector } from '../../src/verify/vector.ts'

// Gradient rules against central differences of the float64 references: loss = sum of seed * output.
const SMALL = 400
const STEP = 1e-5

for (const contract of allOps()) {
  if ('none' in contract.gradient && typeof contract.gradient.none === 'string') continue
  const ports = Object.keys(contract.gradient)
  const cases = contract.cases.filter((c) =>
    Object.values(c.inputs).every((i) => elementCount(i.shape) <= SMALL),
  )
  describe(`gradient of ${contract.name}`, () => {
    it('has a case small enough for finite differences', () => expect(cases.length).toBeGreaterThan(0))
    for (const one of cases)
      it(`${contract.name}/${one.name}`, () => {
        const vector = makeVector(contract, one)
        const forward = new Graph(contract.name)
        const name = (port: string): string => vector.same[port] ?? port
        const inputs = Object.fromEntries(
          Object.entries(vector.inputs).map(([p, t]) => [p, forward.input(name(p), t.type)]),
        )
        let outputs: Record<string, ReturnType<Graph['value']>>
        try {
          outputs = forward.segment('forward', () => forward.op(vector.op, vector.attrs, inputs))
        } catch (error) {
          throw new Error(`case ${one.name}: ${error}`)
        }
        const wanted = ports.filter((p) => inputs[p] && formatOf(inputs[p]!.type.format).kind === 'float')
        const roots = Object.entries(outputs)
          .filter(([p, v]) => v.type.format === 'f32' && !contract.outputs[p]!.doc.includes('no gradient'))
          .map(([p, v]) => ({ value: v.id, seed: `seed.${p}` }))
        const given: Record<string, Float64Array> = {}
        for (const [p, t] of Object.entries(vector.inputs)) given[name(p)] = decodeTensor(t)
        for (const { value, seed } of roots) {
          const random = new Philox(seedOf(seed))
          given[seed] = Float64Array.from({ length: elementCount(forward.value(value).type.shape) }, () =>
            random.normal(),
          )
        }
        const graph = differentiate(forward, {
          roots,
          inputs: [...new Set(wanted.map((p) => inputs[p]!.id))],
        })
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
          expect(output, `no gradient came for ${port}`).toBeDefined()
          const gradient = all.get(output!.value)!
          const x = given[port]!
          const scale = Math.max(1e-3, ...gradient.map(Math.abs))
          for (let i = 0; i < x.length; i++) {
            const before = x[i]!
            const h = STEP * Math.max(1, Math.abs(before))
            x[i] = before + h
            const up = loss()
            x[i] = before - h
            const down = loss()
            x[i] = before
            const difference = (up - down) / (2 * h)
            // Central differences are good to h^2 times the third derivative plus rounding of the loss / h.
            const budget = 1e-6 * scale + (1e-15 * (Math.abs(up) + Math.abs(down))) / h
            expect(
              Math.abs(difference - gradient[i]!),
              `${port}[${i}]: rule ${gradient[i]}, finite difference ${difference}`,
            ).toBeLessThan(budget * 10)
          }
        }
      })
  })
}
