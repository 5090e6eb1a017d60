import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { localTransports } from '../../backends/local_transport.ts'
import { ReferenceDevice, referenceTarget } from '../../backends/reference/device.ts'
import { integers, normal, uniform } from '../../src/ops/cases.ts'
import { collectiveReference } from '../../src/ops/collectives/reference.ts'
import type { Attributes, CaseInput, OpCall } from '../../src/ops/contract.ts'
import { checkCall, opContract } from '../../src/ops/index.ts'
import type { CollectiveAlgorithm } from '../../src/parallel/collectives/algorithm.ts'
import { direct } from '../../src/parallel/collectives/direct.ts'
import { hierarchical } from '../../src/parallel/collectives/hierarchical.ts'
import { lowerCollectives } from '../../src/parallel/collectives/lower.ts'
import { oneStep } from '../../src/parallel/collectives/one_step.ts'
import { ring } from '../../src/parallel/collectives/ring.ts'
import { tree } from '../../src/parallel/collectives/tree.ts'
import { loadForRank } from '../../src/parallel/load_for_rank.ts'
import { compile, programHash } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import type { Program } from '../../src/program/program.ts'
import { verifyProgram } from '../../src/program/verify.ts'
import { Philox } from '../../src/tensor/philox.ts'
import { elementCount, tensorType } from '../../src/tensor/type.ts'
import { differentiate } from '../../src/train/autodiff.ts'
import { makeCollective, runCollective, wrongMember } from '../helpers/collectives.ts'

const device = new ReferenceDevice()
const onReference = () => device

/** An algorithm for n members: each of them, and every size of node that cuts the group. */
const algorithmOf = (size: number): fc.Arbitrary<CollectiveAlgorithm> => {
  const nodes = Array.from({ length: size }, (_, i) => i + 1).filter((nodeSize) => size % nodeSize === 0)
  return fc.constantFrom<CollectiveAlgorithm>(direct, oneStep, ring, tree, ...nodes.map(hierarchical))
}

interface Drawn {
  readonly op: string
  readonly size: number
  readonly specs: Record<string, CaseInput>
  readonly attrs: Attributes
  readonly algorithm: CollectiveAlgorithm
  readonly ranks: readonly number[]
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

const kinds = ['all_reduce', 'reduce_scatter', 'all_gather', 'all_to_all', 'rank_broadcast'] as const

const drawn: fc.Arbitrary<Drawn> = fc.integer({ min: 2, max: 9 }).chain((size) =>
  fc
    .record({
      op: fc.constantFrom(...kinds, 'cross_entropy_parallel' as const),
      shape: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 3 }),
      whole: fc.boolean(),
      root: fc.nat(size - 1),
      algorithm: algorithmOf(size),
      ranks: fc.shuffledSubarray(range(size), { minLength: size }),
    })
    .map(({ op, shape, whole, root, ...rest }) => {
      const parts = op === 'reduce_scatter' || op === 'all_to_all' || (op === 'all_reduce' && whole)
      const [rows, ...inner] = shape as [number, ...number[]]
      const x = parts ? [rows * size, ...inner] : shape
      const specs: Record<string, CaseInput> =
        op === 'cross_entropy_parallel'
          ? {
              logits: normal([rows, 6], 2),
              targets: integers([rows], 0, 6 * size),
              weights: uniform([rows], 0, 1),
            }
          : { x: op === 'all_to_all' ? integers(x, 0, 2 ** 32) : normal(x) }
      return { op, specs, attrs: { size, ...(op === 'rank_broadcast' ? { root } : {}) }, size, ...rest }
    }),
)

const plus = (a: number, b: number): number => Math.fround(a + b)
const inOrder = (terms: readonly number[]): number => terms.reduce(plus)

describe('collectives on the reference backend', () => {
  it('give what the float64 reference gives, and equal bytes where all get the same', async () => {
    await fc.assert(
      fc.asyncProperty(drawn, async ({ op, attrs, specs, algorithm, ranks }) => {
        const vector = makeCollective(op, attrs, specs)
        const got = await runCollective(onReference, vector, { choose: () => algorithm, ranks })
        expect(wrongMember(vector, got)).toBe('')
        if (op !== 'reduce_scatter' && op !== 'all_to_all') for (const one of got) expect(one).toEqual(got[0])
      }),
      { numRuns: 60 },
    )
  })

  it.each(range(8).map((i) => i + 2))('do so by every algorithm that has them, n = %i', async (size) => {
    const nodes = range(size).filter((nodeSize) => nodeSize > 1 && size % nodeSize === 0)
    for (const algorithm of [
      direct,
      oneStep,
      ring,
      tree,
      ...nodes.map(hierarchical),
    ] as CollectiveAlgorithm[])
      for (const op of kinds) {
        if (!algorithm[op]) continue
        const attrs = { size, ...(op === 'rank_broadcast' ? { root: size >> 1 } : {}) }
        const divided = makeCollective(op, attrs, { x: normal([2 * size, 3]) })
        const uneven = op === 'all_reduce' ? [makeCollective(op, attrs, { x: normal([2 * size + 1]) })] : []
        for (const vector of [divided, ...uneven]) {
          const got = await runCollective(onReference, vector, { choose: () => algorithm })
          expect(wrongMember(vector, got), algorithm.name).toBe('')
        }
      }
  })

  it.each([direct, oneStep])('$name sums in member order to the bit', async (algorithm) => {
    await fc.assert(
      fc.asyncProperty(drawn, async ({ specs: { x }, size }) => {
        fc.pre(x?.format === 'f32')
        const vector = makeCollective('all_reduce', { size }, { x: x! })
        const got = await runCollective(onReference, vector, { choose: () => algorithm })
        const terms = vector.inputs.map(
          ({ x: t }) => new Float32Array(t!.bytes.buffer, 0, t!.bytes.length / 4),
        )
        const expected = terms.slice(1).reduce((sum, term) => sum.map((v, i) => v + term[i]!), terms[0]!)
        expect(got).toHaveLength(size)
        for (const { y } of got) expect(new Float32Array(y!.buffer)).toEqual(expected)
      }),
      { numRuns: 50 },
    )
  })

  // Terms of which rounding loses others than it does in another order.
  it.each<[CollectiveAlgorithm, number[], (x: number[], element: number) => number]>([
    [direct, [1e8, 1, -1e8, 1], (x) => inOrder(x)],
    [oneStep, [1e8, 1, -1e8, 1], (x) => inOrder(x)],
    [tree, [1e8, 1, -1e8, 1], ([a, b, c, d]) => plus(plus(a!, b!), plus(c!, d!))],
    [tree, [1e8, 1, 1, -1e8, 1], ([a, b, c, d, e]) => plus(plus(plus(a!, b!), c!), plus(d!, e!))],
    [ring, [1e8, 1, -1e8, 1], (x, i) => inOrder([...x.slice(i + 1), ...x.slice(0, i + 1)])],
    [ring, [1, 1e8, 3, -1e8, 1], (x, i) => inOrder([...x.slice(i + 1), ...x.slice(0, i + 1)])],
    [hierarchical(2), [1, 1, 1e8, -1e8], ([a, b, c, d]) => plus(plus(a!, b!), plus(c!, d!))],
    [hierarchical(3), [1e8, 1, -1e8, 1, 1, 1], (x) => plus(inOrder(x.slice(0, 3)), inOrder(x.slice(3)))],
    [
      hierarchical(2),
      [1e8, 1, 1, 1, -1e8, 1],
      (x) => inOrder([0, 2, 4].map((i) => inOrder(x.slice(i, i + 2)))),
    ],
  ])('$0.name adds in its order: %#', async (algorithm, terms, expected) => {
    const size = terms.length
    const made = makeCollective('all_reduce', { size }, { x: normal([size]) })
    const inputs = terms.map((term) => {
      const bytes = new Uint8Array(new Float32Array(size).fill(term).buffer)
      return { x: { type: made.call.inputs.x!, bytes } }
    })
    const got = await runCollective(onReference, { ...made, inputs }, { choose: () => algorithm })
    for (const { y } of got)
      expect([...new Float32Array(y!.buffer)]).toEqual(terms.map((_, i) => expected(terms, i)))
  })
})

describe('programs of the members', () => {
  const programs = ({ op, attrs, specs, algorithm, size }: Drawn): Program[] => {
    const graph = new Graph(op)
    const inputs = Object.entries(specs).map(([port, s]) => [
      port,
      graph.input(port, tensorType(s.format, ...s.shape)),
    ])
    const outputs = graph.op(op, { group: 'g', ...attrs }, Object.fromEntries(inputs))
    for (const [port, value] of Object.entries(outputs)) graph.output(port, value)
    return Array.from({ length: size }, (_, self) =>
      compile(
        lowerCollectives(graph, { g: self }, () => algorithm),
        referenceTarget,
      ),
    )
  }

  it('pass the verifier; by direct all but the broadcast are one program', () => {
    fc.assert(
      fc.property(drawn, (one) => {
        const made = programs(one)
        for (const program of made) verifyProgram(program, referenceTarget)
        const different = new Set(made.map(programHash)).size
        if (one.algorithm === direct) expect(different).toBe(one.op === 'rank_broadcast' ? 2 : 1)
      }),
      { numRuns: 150 },
    )
  })

  it.each([ring, tree, hierarchical(2)])('$name has a program for every member', (algorithm) => {
    const specs = { x: normal([8]) }
    const made = programs({ op: 'all_reduce', size: 4, attrs: { size: 4 }, specs, algorithm, ranks: [] })
    expect(new Set(made.map(programHash)).size).toBe(4)
  })

  it('ring holds chunks, not another tensor', () => {
    const size = 8
    const elements = 8 * 1024
    const one = { size, attrs: { size }, specs: { x: normal([elements]) }, ranks: [] }
    const scratch = (op: string, algorithm: CollectiveAlgorithm): number =>
      programs({ ...one, op, algorithm })[0]!.arenas.find((a) => a.kind === 'activations')!.bytes
    const chunk = (4 * elements) / size
    expect(scratch('reduce_scatter', ring)).toBeLessThanOrEqual(4 * chunk)
    expect(scratch('all_gather', ring)).toBe(4 * elements * size)
    expect(scratch('all_reduce', ring)).toBeLessThanOrEqual(4 * elements + 4 * chunk)
    expect(scratch('reduce_scatter', direct)).toBeGreaterThanOrEqual(4 * elements)
  })
})

describe('several collectives', () => {
  it('of one graph, on one channel and on several, do not mix up their messages', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }).chain((size) =>
          fc.record({
            size: fc.constant(size),
            calls: fc.array(fc.record({ channel: fc.nat(2), algorithm: algorithmOf(size) }), {
              minLength: 2,
              maxLength: 5,
            }),
          }),
        ),
        async ({ size, calls }) => {
          const graph = new Graph('several')
          const x = graph.input('x', tensorType('f32', 2 * size))
          // Half of them take the sum before, half the input: chains and independent collectives.
          let last = graph.op('add', {}, { a: x, b: x }).y!
          calls.forEach(({ channel }, i) => {
            const { y } = graph.op('all_reduce', { group: 'g', size, channel }, { x: i % 2 ? last : x })
            graph.output(`y${i}`, y!)
            last = y!
          })
          const members = range(size)
          const outputs = await Promise.all(
            localTransports(size).map(async (transport) => {
              let next = 0
              const lowered = lowerCollectives(
                graph,
                { g: transport.rank },
                () => calls[next++ % calls.length]!.algorithm,
              )
              const rank = await loadForRank(device, compile(lowered, device.target), {
                communicator: { transport, groups: { g: members } },
              })
              return rank.step('main', { x: new Float32Array(2 * size).fill(transport.rank + 1) })
            }),
          )
          const total = (size * (size + 1)) / 2
          for (const got of outputs)
            calls.forEach((_, i) => {
              const factor = i % 2 ? size : 1
              expect([...new Float32Array(got[`y${i}`]!.buffer)]).toEqual(
                new Array(2 * size).fill(factor * total),
              )
            })
        },
      ),
      { numRuns: 40 },
    )
  })
})

describe('gradients over ranks', () => {
  const step = 1e-4

  it.each([
    'all_gather',
    'reduce_scatter',
    'all_to_all',
  ])('of %s are those of the sum of all losses', async (op) => {
    const size = 3
    const shape = op === 'all_gather' ? [2, 2] : [6, 2]
    const type = tensorType('f32', ...shape)
    const call: OpCall = checkCall(opContract(op), { group: 'g', size }, { x: type })
    const random = new Philox(5)
    const draw = (n: number): Float64Array => Float64Array.from({ length: n }, () => random.normal())
    const x = Array.from({ length: size }, () => draw(elementCount(shape)))
    const factors = Array.from({ length: size }, () => draw(elementCount(call.outputs.y!.shape)))

    const forward = new Graph(op)
    const input = forward.input('x', type)
    const { y } = forward.op(op, call.attrs, { x: input })
    const backward = differentiate(forward, { roots: [{ value: y!.id, seed: 'seed' }], inputs: [input.id] })
    const got = await Promise.all(
      localTransports(size).map(async (transport, member) => {
        const program = compile(lowerCollectives(backward, { g: member }), device.target)
        const rank = await loadForRank(device, program, {
          communicator: { transport, groups: { g: [0, 1, 2] } },
        })
        rank.run('main', { x: Float32Array.from(x[member]!) })
        rank.run('backward_input', { seed: Float32Array.from(factors[member]!) })
        const { 'd.x': dx } = await rank.step('backward_weight')
        return new Float32Array(dx!.buffer)
      }),
    )

    const loss = (): number =>
      collectiveReference(
        call,
        x.map((values) => ({ x: values })),
      ).reduce(
        (sum, { y: out }, member) => sum + out!.reduce((s, v, i) => s + v * factors[member]![i]!, 0),
        0,
      )
    x.forEach((values, member) => {
      values.forEach((before, i) => {
        values[i] = before + step
        const up = loss()
        values[i] = before - step
        const down = loss()
        values[i] = before
        // A linear function: only rounding is left, of f32 sums of three terms below 4 and of the loss over the step.
        expect(Math.abs(got[member]![i]! - (up - down) / (2 * step))).toBeLessThan(1e-5)
      })
    })
  })
})

describe('a wrong world is refused', () => {
  const graph = new Graph('sum')
  const value = graph.input('x', tensorType('f32', 6))
  graph.output('y', graph.op('all_reduce', { group: 'g', size: 3 }, { x: value }).y!)
  const load = (groups: Record<string, number[]>, size = 3) => {
    const program = compile(lowerCollectives(graph, { g: 0 }), device.target)
    return loadForRank(device, program, {
      communicator: { transport: localTransports(size)[0]!, groups },
    })
  }

  it.each<[string, Record<string, number[]>]>([
    ['a group of another size', { g: [0, 1] }],
    ['a rank that is not in the group', { g: [1, 2, 3] }],
    ['a group nobody named', { h: [0, 1, 2] }],
  ])('%s', async (_what, groups) => {
    await expect(load(groups, 4)).rejects.toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining("group 'g'"),
    })
  })

  it('a peer that the world does not have', async () => {
    const rank = await load({ g: [0, 1, 7] })
    await expect(rank.step('main', { x: new Float32Array(6) })).rejects.toMatchObject({
      code: 'invalid_argument',
    })
  })

  it('a group the rank has no number in, nodes that do not cut the group, a root outside it', () => {
    expect(() => lowerCollectives(graph, {})).toThrow(/this rank is in none/)
    expect(() => lowerCollectives(graph, { g: 0 }, () => hierarchical(2))).toThrow(
      /whole nodes of 2 members, got 3/,
    )
    expect(() => new Graph('b').op('rank_broadcast', { group: 'g', size: 2, root: 2 }, {})).toThrow(/x/)
  })
})
