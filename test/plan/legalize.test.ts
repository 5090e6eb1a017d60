import { describe, expect, it } from 'vitest'
import { ReferenceDevice } from '../../backends/reference/device.ts'
import { evaluate } from '../../backends/reference/evaluate.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { executionOrder, legalize } from '../../src/program/legalize.ts'
import { formatOf } from '../../src/tensor/format.ts'
import { tensorType } from '../../src/tensor/type.ts'
import { seededValues } from './fixtures.ts'

const f32 = (...shape: number[]) => tensorType('f32', ...shape)
const ops = (g: Graph): string[] => executionOrder(g).map((n) => n.op)

/** Compiles and runs on the reference device, where in-place really overwrites; compares with pure evaluation. */
async function runsAsWritten(g: Graph): Promise<void> {
  const given = seededValues(g)
  const values = evaluate(g, given)
  const device = new ReferenceDevice()
  const executable = await device.load(compile(g, device.target, { portable: true }))
  const bytes = Object.fromEntries(
    Object.entries(given).map(([name, v]) => [name, formatOf('f32').encode(v)]),
  )
  for (const { kind, tensors } of executable.program.arenas)
    if (kind === 'weights') for (const t of tensors) executable.arenas[kind]!.write(t.offset, bytes[t.name]!)
  for (const segment of executable.program.segments) {
    const inputs = Object.fromEntries(segment.inputs.map(({ name }) => [name, bytes[name]!]))
    const outputs = await executable.step(segment.name, inputs)
    for (const { name, value } of g.outputs.filter((o) => o.segment === segment.name)) {
      const want = values.get(value)!
      const got = formatOf('f32').decode(outputs[name]!, want.length)
      // One rounding to f32 per op on the way; the graphs below have at most four ops in a row.
      want.forEach((v, i) => {
        expect(Math.abs(got[i]! - v)).toBeLessThanOrEqual(Math.max(1, Math.abs(v)) * 2 ** -20)
      })
    }
  }
}

describe('legalize', () => {
  it('copies a tensor given to two ports', async () => {
    const g = new Graph('twice')
    const x = g.input('x', f32(8))
    g.output('y', g.op('mul', {}, { a: x, b: x }).y!)
    expect(ops(legalize(g))).toEqual(['copy', 'mul'])
    await runsAsWritten(g)
  })

  it('copies what an in-place op would destroy before its last reader', async () => {
    const g = new Graph('kept')
    const x = g.input('x', f32(8))
    const v = g.op('silu', {}, { x }).y!
    const sum = g.op('accumulate', {}, { accumulator: v, x }).y!
    g.output('y', g.op('mul', {}, { a: sum, b: v }).y!)
    expect(ops(legalize(g))).toEqual(['silu', 'copy', 'accumulate', 'mul'])
    await runsAsWritten(g)
  })

  it('copies a declared output before it is overwritten', async () => {
    const g = new Graph('output')
    const x = g.input('x', f32(8))
    const v = g.op('silu', {}, { x }).y!
    g.output('v', v)
    g.output('y', g.op('accumulate', {}, { accumulator: v, x }).y!)
    expect(ops(legalize(g))).toEqual(['silu', 'copy', 'accumulate'])
    await runsAsWritten(g)
  })

  it('copies a constant rather than overwrite it', async () => {
    const g = new Graph('constant')
    const x = g.input('x', f32(8))
    const zeros = g.constant('zeros', { shape: [8] }, f32(8))
    g.output('y', g.op('accumulate', {}, { accumulator: zeros, x }).y!)
    expect(ops(legalize(g))).toEqual(['copy', 'accumulate'])
    await runsAsWritten(g)
  })

  it('copies a step input, which the next step may read again', async () => {
    const g = new Graph('input')
    const x = g.input('x', f32(8))
    g.output('y', g.op('accumulate', {}, { accumulator: x, x: g.op('silu', {}, { x }).y! }).y!)
    expect(ops(legalize(g))).toEqual(['silu', 'copy', 'accumulate'])
    await runsAsWritten(g)
  })

  it('copies the read-only port when one tensor is both added to and added', async () => {
    const g = new Graph('both')
    const v = g.op('silu', {}, { x: g.input('x', f32(8)) }).y!
    g.output('y', g.op('accumulate', {}, { accumulator: v, x: v }).y!)
    const legal = legalize(g)
    expect(ops(legal)).toEqual(['silu', 'copy', 'accumulate'])
    const { inputs } = legal.nodes[2]!
    expect(legal.value(inputs.accumulator!).name).toContain('silu')
    expect(legal.value(inputs.x!).name).toContain('copy')
    await runsAsWritten(g)
  })

  it('overwrites in place what nobody needs any more', async () => {
    const g = new Graph('free')
    const x = g.input('x', f32(8))
    const v = g.op('silu', {}, { x }).y!
    const once = g.op('accumulate', {}, { accumulator: v, x }).y!
    g.output('y', g.op('accumulate', {}, { accumulator: once, x }).y!)
    expect(ops(legalize(g))).toEqual(['silu', 'accumulate', 'accumulate'])
    await runsAsWritten(g)
  })

  it('leaves in-place ops over external arenas alone', () => {
    const g = new Graph('external')
    const x = g.input('x', f32(8))
    const total = g.external('gradients', 'total', f32(8))
    g.output('first', g.op('accumulate', {}, { accumulator: total, x }).y!)
    g.output('again', g.op('silu', {}, { x: total }).y!)
    expect(ops(legalize(g))).toEqual(['accumulate', 'silu'])
  })

  it('knows two names of one storage', async () => {
    const g = new Graph('names')
    const x = g.input('x', f32(8))
    const v = g.op('silu', {}, { x }).y!
    const sum = g.op('accumulate', {}, { accumulator: v, x }).y!
    g.output('y', g.op('mul', {}, { a: sum, b: sum }).y!)
    await runsAsWritten(g)
  })

  it('goes by execution order, not by the order nodes were appended', async () => {
    const g = new Graph('order')
    const x = g.input('x', f32(8))
    g.segment('first', () => {})
    g.segment('second', () => {})
    const v = g.segment('first', () => g.op('silu', {}, { x }).y!)
    g.segment('second', () => g.output('late', g.op('silu', {}, { x: v }).y!))
    g.segment('first', () => g.output('sum', g.op('accumulate', {}, { accumulator: v, x }).y!))
    // The accumulation runs before the second segment reads v.
    expect(ops(legalize(g)).filter((o) => o === 'copy')).toHaveLength(1)
    await runsAsWritten(g)
  })
})
