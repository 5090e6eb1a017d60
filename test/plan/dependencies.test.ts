import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dependencies } from '../../src/program/dependencies.ts'
import type { Access, Launch, Step } from '../../src/program/program.ts'

const call = { op: 'add', attrs: {}, inputs: {}, outputs: {} }
const launch = (
  index: number,
  bindings: readonly (readonly [at: number, bytes: number, access: Access])[],
): Launch => ({
  kind: 'launch',
  index,
  name: `step.${index}`,
  queue: 'compute',
  after: [],
  kernel: 0,
  workgroups: [1, 1, 1],
  bindings: bindings.map(([offset, bytes, access]) => ({
    name: 'b',
    arena: 'activations',
    offset,
    bytes,
    access,
  })),
  call,
  part: [0, 1],
  flops: 0,
})

const binding = fc.tuple(
  fc.nat(12),
  fc.integer({ min: 1, max: 4 }),
  fc.constantFrom<Access>('read', 'write', 'read_write'),
)
const program = fc
  .array(fc.array(binding, { minLength: 1, maxLength: 3 }), { maxLength: 70 })
  .map((steps) => steps.map((bindings, i) => launch(i, bindings)))

/** Byte by byte: do two steps touch a byte that one of them writes? */
function conflicts(a: Launch, b: Launch): boolean {
  const touched = (s: Launch, writing: boolean): Set<number> =>
    new Set(
      s.bindings
        .filter((r) => !writing || r.access !== 'read')
        .flatMap((r) => Array.from({ length: r.bytes }, (_, i) => r.offset + i)),
    )
  const meet = (x: Set<number>, y: Set<number>): boolean => [...x].some((byte) => y.has(byte))
  return meet(touched(a, true), touched(b, false)) || meet(touched(a, false), touched(b, true))
}

/** All steps that come before each step when only `after` counts. */
function ancestors(after: readonly (readonly number[])[]): Set<number>[] {
  const all: Set<number>[] = []
  for (const list of after) all.push(new Set(list.flatMap((j) => [j, ...all[j]!])))
  return all
}

describe('dependencies', () => {
  it('order exactly the steps that must be, without waits that follow from others', () => {
    fc.assert(
      fc.property(program, (steps) => {
        const after = dependencies(steps)
        const reach = ancestors(after)
        // What must be ordered: the transitive closure of all conflicts.
        const must = ancestors(
          steps.map((s, i) => steps.slice(0, i).flatMap((t, j) => (conflicts(s, t) ? [j] : []))),
        )
        expect(reach).toEqual(must)
        after.forEach((list, i) => {
          expect(list).toEqual([...new Set(list)].sort((a, b) => a - b))
          for (const j of list)
            expect(
              list.some((k) => k !== j && reach[k]!.has(j)),
              `step ${i} waits for ${j} twice`,
            ).toBe(false)
        })
      }),
      { seed: 7, numRuns: 100 },
    )
  })

  it('let readers run together', () => {
    const steps = [launch(0, [[0, 4, 'write']]), launch(1, [[0, 4, 'read']]), launch(2, [[0, 4, 'read']])]
    expect(dependencies(steps)).toEqual([[], [0], [0]])
  })

  it('see all three hazards and bytes that only touch', () => {
    const waits = (first: Access, at: number, second: Access) =>
      dependencies([launch(0, [[0, 4, first]]), launch(1, [[at, 4, second]])])[1]
    expect(waits('write', 3, 'read')).toEqual([0])
    expect(waits('read', 3, 'write')).toEqual([0])
    expect(waits('write', 3, 'write')).toEqual([0])
    expect(waits('write', 4, 'write')).toEqual([])
    expect(waits('read', 0, 'read')).toEqual([])
  })

  it('order transfers by what they copy', () => {
    const send: Step = {
      kind: 'transfer',
      index: 1,
      name: 'send',
      queue: 'copy',
      after: [],
      from: { arena: 'activations', offset: 0, bytes: 4 },
      to: { arena: 'kv', offset: 0, bytes: 4 },
    }
    const steps = [
      launch(0, [[0, 4, 'write']]),
      send,
      launch(2, [[0, 4, 'read']]),
      launch(3, [[2, 4, 'write']]),
    ]
    expect(dependencies(steps)).toEqual([[], [0], [0], [1, 2]])
  })
})
