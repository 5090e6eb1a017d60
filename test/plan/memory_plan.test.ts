import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { externalLayout } from '../../src/program/layout.ts'
import { type Lifetime, liveBytes, type MemoryPlan, planMemory } from '../../src/program/memory_plan.ts'
import { lifetimePicture, lifetimeSvg, memoryReport } from '../../src/program/memory_report.ts'
import { tensorType } from '../../src/tensor/type.ts'
import { smallGraph, tightTarget } from './fixtures.ts'

const CHUNK = 4096
const lifetime = fc
  .record({ bytes: fc.integer({ min: 1, max: CHUNK }), first: fc.nat(20), length: fc.nat(12) })
  .map(({ bytes, first, length }): Lifetime => ({ bytes, first, last: first + length }))

/** Pairs that are alive at the same time and share bytes, by trying all. */
const clashes = (lives: readonly Lifetime[], { offsets }: MemoryPlan): [number, number][] =>
  lives.flatMap((a, i) =>
    lives.slice(i + 1).flatMap((b, k): [number, number][] => {
      const j = i + 1 + k
      const together = a.first <= b.last && b.first <= a.last
      const overlap = offsets[i]! < offsets[j]! + b.bytes && offsets[j]! < offsets[i]! + a.bytes
      return together && overlap ? [[i, j]] : []
    }),
  )

/** Largest sum alive, by adding up every step. */
const bruteLive = (lives: readonly Lifetime[], alignment: number): number =>
  Math.max(
    0,
    ...Array.from({ length: 40 }, (_, step) =>
      lives
        .filter((l) => l.first <= step && step <= l.last)
        .reduce((sum, l) => sum + Math.ceil(l.bytes / alignment) * alignment, 0),
    ),
  )

describe('planMemory', () => {
  it('never lets tensors alive at once share bytes, aligned and inside one buffer', () => {
    fc.assert(
      fc.property(fc.array(lifetime, { maxLength: 40 }), (lives) => {
        const plan = planMemory(lives, 256, CHUNK)
        expect(clashes(lives, plan)).toEqual([])
        lives.forEach(({ bytes }, i) => {
          const offset = plan.offsets[i]!
          expect(offset % 256).toBe(0)
          expect(Math.floor(offset / CHUNK)).toBe(Math.floor((offset + bytes - 1) / CHUNK))
          expect(offset + bytes).toBeLessThanOrEqual(plan.bytes)
        })
        expect(plan.lowerBound).toBe(bruteLive(lives, 256))
        expect(plan.bytes).toBeGreaterThanOrEqual(plan.lowerBound)
        expect(planMemory(lives, 256, CHUNK)).toEqual(plan)
      }),
      { seed: 1, numRuns: 300 },
    )
  })

  it('reuses the bytes of a chain: two buffers, whatever its length', () => {
    const chain = Array.from({ length: 50 }, (_, i) => ({ bytes: 1024, first: i, last: i + 1 }))
    expect(planMemory(chain, 256, CHUNK)).toMatchObject({ bytes: 2048, lowerBound: 2048 })
  })

  it('needs the sum when everything is alive at once', () => {
    const all = [256, 512, 768].map((bytes) => ({ bytes, first: 0, last: 9 }))
    expect(planMemory(all, 256, CHUNK).bytes).toBe(256 + 512 + 768)
  })

  it('puts small short-lived tensors into the hole of a large one', () => {
    const lives = [
      { bytes: 4096, first: 0, last: 1 },
      { bytes: 2048, first: 2, last: 3 },
      { bytes: 2048, first: 2, last: 5 },
      { bytes: 2048, first: 4, last: 5 },
    ]
    expect(planMemory(lives, 256, 65536).bytes).toBe(4096)
  })

  it('starts a new buffer rather than cross a boundary', () => {
    const lives = [3072, 2048].map((bytes) => ({ bytes, first: 0, last: 0 }))
    const { offsets, bytes } = planMemory(lives, 256, CHUNK)
    expect([...offsets].sort((a, b) => a - b)).toEqual([0, 4096])
    expect(bytes).toBeGreaterThan(CHUNK)
  })

  it('refuses a tensor larger than a buffer', () => {
    expect(() => planMemory([{ bytes: CHUNK + 1, first: 0, last: 0 }], 256, CHUNK)).toThrow(/does not fit/)
  })

  it('counts alive bytes at their alignment', () => {
    expect(liveBytes([{ bytes: 1, first: 0, last: 0 }], 256)).toBe(256)
    expect(
      liveBytes(
        [
          { bytes: 256, first: 0, last: 1 },
          { bytes: 256, first: 2, last: 3 },
        ],
        256,
      ),
    ).toBe(256)
  })
})

describe('externalLayout', () => {
  const f32 = (name: string, ...shape: number[]) => ({ name, type: tensorType('f32', ...shape) })

  it('puts matrices before vectors, each by name, aligned', () => {
    const plan = externalLayout(
      'weights',
      [f32('b', 4, 4), f32('v', 3), f32('a', 70), f32('c', 100, 1)],
      CHUNK,
    )
    expect(plan.tensors.map((t) => [t.name, t.offset])).toEqual([
      ['b', 0],
      ['c', 256],
      ['a', 768],
      ['v', 1280],
    ])
    expect(plan.vectorsAt).toBe(768)
  })

  it('gives one hash for one set of tensors, in any order, and another for another format', () => {
    const hash = (...tensors: ReturnType<typeof f32>[]) =>
      externalLayout('weights', tensors, CHUNK).layoutHash
    expect(hash(f32('a', 4, 4), f32('b', 3))).toBe(hash(f32('b', 3), f32('a', 4, 4)))
    expect(hash(f32('a', 4, 4))).not.toBe(hash({ name: 'a', type: tensorType('u32', 4, 4) }))
  })
})

describe('memoryReport', () => {
  const program = compile(smallGraph(), tightTarget)

  it('adds up arenas and compares them with the fewest bytes possible', () => {
    const report = memoryReport(program)
    expect(report.peak).toBe(program.arenas.reduce((sum, a) => sum + a.bytes, 0))
    const activations = report.arenas.find((a) => a.kind === 'activations')!
    expect(activations.lowerBound).toBeLessThanOrEqual(activations.bytes)
    expect(report.arenas.find((a) => a.kind === 'weights')!.lowerBound).toBe(4 * (64 + 16 * 64 + 64 * 16))
    expect(report.overheadPercent).toBeCloseTo((100 * (report.peak - report.lowerBound)) / report.lowerBound)
  })

  it('multiplies activations by the slots', () => {
    const [one, three] = [1, 3].map((slots) => memoryReport(compile(smallGraph(), tightTarget, { slots })))
    const of = (r: typeof one) => r!.arenas.find((a) => a.kind === 'activations')!
    expect(of(three).bytes).toBe(3 * of(one).bytes)
    expect(of(three).lowerBound).toBe(3 * of(one).lowerBound)
  })

  it('draws who is alive where', () => {
    const g = new Graph('chain')
    let v = g.op('silu', {}, { x: g.input('x', tensorType('f32', 64)) }).y!
    for (let i = 0; i < 3; i++) v = g.op('silu', {}, { x: v }).y!
    g.output('y', v)
    const chain = compile(g, tightTarget)
    expect(lifetimePicture(chain)).toBe(
      ['  0 |████|', '256 | ███|', '     ^   ', '     main from op 0', ''].join('\n'),
    )
    expect(lifetimeSvg(chain).match(/<title>/g)).toHaveLength(4)
  })
})
