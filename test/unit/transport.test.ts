import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { localTransports } from '../../backends/local_transport.ts'
import type { Transport } from '../../backends/transport.ts'
import { ExactmapError } from '../../src/errors.ts'
import { agree, type Facts } from '../../src/parallel/agreement.ts'
import { runAsRank } from '../../src/parallel/run_as_rank.ts'
import { checks, play, schedules } from '../ranks/contract.ts'

// The contract of transports over the ranks of one process; test/ranks runs the same checks over MPI.

const onAll = <T>(ranks: readonly Transport[], work: (t: Transport) => Promise<T>): Promise<T[]> =>
  Promise.all(ranks.map(work))
const outcomes = (ranks: readonly Transport[], work: (t: Transport) => Promise<unknown>): Promise<string[]> =>
  onAll(ranks, (t) =>
    work(t).then(
      () => 'done',
      (error) => `${error.code}: ${error.message}`,
    ),
  )

describe.each([1, 2, 4])('local transports of %i ranks', (size) => {
  const ranks = localTransports(size)
  it.each(Object.entries(checks))('%s', async (_, run) => {
    await onAll(ranks, run)
  })
})

it('any schedule of messages arrives, in order', async () => {
  const ranks = fc.integer({ min: 1, max: 5 })
  const runs = ranks.chain((size) => schedules(size).map((messages) => ({ size, messages })))
  await fc.assert(
    fc.asyncProperty(runs, async ({ size, messages }) => {
      await onAll(localTransports(size), (t) => play(t, messages))
    }),
    { numRuns: 100, seed: 12 },
  )
})

it('abort rejects what any rank waits for, or asks for later, with the cause', async () => {
  const ranks = localTransports(4)
  const waits = outcomes(ranks, (t) =>
    t.rank === 3 ? t.close() : t.receive((t.rank + 1) % 3, t.rank, new Uint8Array(1)),
  )
  ranks[1]!.abort(new ExactmapError('device_lost', 'the first cause'))
  ranks[2]!.abort(new ExactmapError('internal', 'a later one'))
  expect(await waits).toEqual(Array(4).fill('device_lost: the first cause'))
  await expect(ranks[0]!.send(1, 0, new Uint8Array(1))).rejects.toThrow('the first cause')
  await expect(ranks[0]!.receive(1, 0, new Uint8Array(1))).rejects.toThrow('the first cause')
})

it('a rank that fails ends the others, with its cause', async () => {
  const results = outcomes(localTransports(3), (t) =>
    runAsRank(t, async () => {
      if (t.rank === 1) throw new ExactmapError('out_of_memory', 'too small')
      await t.receive(1, 0, new Uint8Array(1))
    }),
  )
  expect(await results).toEqual(Array(3).fill('out_of_memory: too small'))
  const bug = outcomes(localTransports(2), (t) =>
    runAsRank(t, () =>
      t.rank === 0 ? t.receive(1, 0, new Uint8Array(1)) : Promise.reject(new TypeError('x')),
    ),
  )
  expect((await bug)[0]).toMatch(/^internal: TypeError: x\n.*transport\.test/s)
})

it('runAsRank gives what the body gives, and closes', async () => {
  const ranks = localTransports(2)
  expect(await onAll(ranks, (t) => runAsRank(t, async () => t.rank * 2))).toEqual([0, 2])
  await expect(ranks[0]!.send(1, 0, new Uint8Array(1))).rejects.toThrow('it was closed')
})

describe('agreement', () => {
  const facts: Facts = { world: '4', plan: '3c4d', model: 'aa' }
  const ask = (of: (rank: number) => Facts, options: object = {}) =>
    outcomes(localTransports(4), (t) => agree(t, of(t.rank), { host: `h${t.rank}`, ...options }))

  it('lets equal ranks go on', async () => {
    expect(await ask(() => facts)).toEqual(Array(4).fill('done'))
  })

  it('names the rank that differs, on all ranks', async () => {
    expect(await ask((rank) => (rank === 3 ? { ...facts, plan: '1a2b' } : facts))).toEqual(
      Array(4).fill(
        'conflict: rank 3 (host h3) has plan 1a2b, rank 0 has 3c4d: start all ranks with the same plan file',
      ),
    )
  })

  it('says how many more differ, and what a rank does not have', async () => {
    const [first] = await ask((rank) => (rank < 2 ? facts : { world: '4', plan: '3c4d' }))
    expect(first).toBe(
      'conflict: rank 2 (host h2) has model no model, rank 0 has aa: start all ranks with the same model and configuration; 1 more of 4 ranks differ from rank 0',
    )
    const [other] = await ask((rank) => (rank === 1 ? { ...facts, seed: '1' } : facts))
    expect(other).toBe(
      'conflict: rank 1 (host h1) has seed 1, rank 0 has no seed: start all ranks with the same seed',
    )
  })

  it('gives up on a rank that does not report', async () => {
    const ranks = localTransports(3)
    const results = outcomes(ranks.slice(0, 2), (t) => agree(t, facts, { seconds: 0.05 }))
    expect(await results).toEqual(
      Array(2).fill('interrupted: rank 2 did not report: see whether its host runs (within 0.05 s)'),
    )
  })
})
