import { afterAll, afterEach, describe, expect, it } from 'vitest'
import type { Executable } from '../../backends/backend.ts'
import type { CudaDevice } from '../../backends/cuda/device.ts'
import { openCudaEmulated } from '../../backends/cuda/open.ts'
import { localTransports } from '../../backends/local_transport.ts'
import type { ExactmapError } from '../../src/errors.ts'
import type { ExchangeAttributes } from '../../src/ops/collectives/exchange.ts'
import { lowerCollectives } from '../../src/parallel/collectives/lower.ts'
import { loadForRank } from '../../src/parallel/load_for_rank.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph, type GraphValue } from '../../src/program/graph.ts'
import { tensorType } from '../../src/tensor/type.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { rejection } from './tiny_device.ts'

// Exchanges inside CUDA graphs, on the emulated NCCL: several ranks in this process, one emulated device each. Ranks in
// processes of their own are in ranks.test.ts.

process.env.EXACTMAP_EMULATED_DEVICES = '4'
const probe = await emulatedDevice()
const reason = typeof probe === 'string' ? probe : ''
if (typeof probe !== 'string') probe.destroy()

const WORDS = 96
const BYTES = 4 * WORDS
const type = tensorType('f32', WORDS)
const devices: CudaDevice[] = []

interface Rank {
  readonly device: CudaDevice
  readonly executable: Executable
}

/** A rank's exchange of a whole tensor with each of some peers. */
const whole = (peers: readonly number[], port: string): ExchangeAttributes['sends'] =>
  peers.map((peer) => ({ peer, port, offset: 0, bytes: BYTES }))

/** One rank per device; `build` writes a rank's graph. */
async function ranks(size: number, build: (g: Graph, rank: number) => void): Promise<Rank[]> {
  const all = Array.from({ length: size }, (_, i) => i)
  const transports = localTransports(size)
  const opened: CudaDevice[] = []
  for (const i of all) opened.push(await openCudaEmulated(i))
  devices.push(...opened)
  return Promise.all(
    all.map(async (rank) => {
      const graph = new Graph(`rank ${rank}`)
      build(graph, rank)
      const device = opened[rank]!
      const program = compile(lowerCollectives(graph, { all: rank }), device.target)
      const communicator = { transport: transports[rank]!, groups: { all } }
      return { device, executable: await loadForRank(device, program, { communicator }) }
    }),
  )
}

const values = (make: (i: number) => number): Float32Array =>
  Float32Array.from({ length: WORDS }, (_, i) => make(i))
const floats = (bytes: Uint8Array): number[] => [
  ...new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4),
]
const double = (g: Graph, x: GraphValue): GraphValue => g.op('add', {}, { a: x, b: x }).y!

/** y of a rank is twice what the rank before it was given. */
function ring(size: number): (g: Graph, rank: number) => void {
  return (g, rank) => {
    const x = double(g, g.input('x', type))
    const sends = whole([(rank + 1) % size], 'x')
    const receives = whole([(rank + size - 1) % size], 'y')
    const { y } = g.op(
      'exchange',
      { group: 'all', size, channel: 0, sends, receives, outputs: { y: type } },
      { x },
    )
    g.output('y', g.op('add', {}, { a: y!, b: g.external('state', 'zero', type) }).y!)
  }
}

/** Runs `main` on all ranks at once. */
const step = async (all: readonly Rank[], x: (rank: number, i: number) => number): Promise<number[][]> => {
  const outputs = await Promise.all(
    all.map(({ executable }, rank) => executable.step('main', { x: values((i) => x(rank, i)) })),
  )
  return outputs.map(({ y }) => floats(y!))
}

describe.skipIf(reason)(`NCCL in CUDA graphs${reason && ` (skipped: ${reason})`}`, () => {
  afterEach(() => {
    for (const device of devices.splice(0)) device.destroy()
    delete process.env.EXACTMAP_EMULATED_NCCL_TIMEOUT
    delete process.env.EXACTMAP_TRANSPORT
    delete process.env.EXACTMAP_CUDA_EAGER
  })
  afterAll(() => delete process.env.EXACTMAP_EMULATED_DEVICES)

  it.each([2, 4])('shifts along a ring of %i, 100 times, with other data each time', async (size) => {
    const all = await ranks(size, ring(size))
    expect(all[0]!.device.carriesMessages).toBe(true)
    for (let round = 0; round < 100; round++) {
      const got = await step(all, (rank, i) => 1000 * round + 100 * rank + i)
      for (const [rank, y] of got.entries()) {
        const before = (rank + size - 1) % size
        expect(y).toEqual([...values((i) => 2 * (1000 * round + 100 * before + i))])
      }
    }
  })

  it.each(['nccl', 'host'])('scatters sums directly, over %s', async (transport) => {
    process.env.EXACTMAP_TRANSPORT = transport
    const all = await ranks(4, (g) => {
      const x = double(g, g.input('x', type))
      g.output('y', g.op('reduce_scatter', { group: 'all', size: 4 }, { x }).y!)
    })
    expect(all[0]!.device.carriesMessages).toBe(transport === 'nccl')
    for (let round = 0; round < 5; round++) {
      const got = await step(all, (rank, i) => 10 * round + rank + 4 * i)
      const part = WORDS / 4
      for (const [rank, y] of got.entries())
        expect(y).toEqual(
          Array.from({ length: part }, (_, i) => 2 * (40 * round + 6 + 16 * (rank * part + i))),
        )
    }
  })

  it('swaps with others and itself in one exchange; replays run in the order of the calls', async () => {
    const all = await ranks(2, (g, rank) => {
      const x = g.input('x', type)
      const outputs = { y: type, own: type }
      const sends = [...whole([1 - rank], 'x'), ...whole([rank], 'x')]
      const receives = [...whole([rank], 'own'), ...whole([1 - rank], 'y')]
      const { y, own } = g.op(
        'exchange',
        { group: 'all', size: 2, channel: 7, sends, receives, outputs },
        { x },
      )
      g.output('y', g.op('add', {}, { a: double(g, y!), b: own! }).y!)
    })
    const rounds = Array.from({ length: 12 }, (_, round) => step(all, (rank, i) => round * (i + rank)))
    for (const [round, got] of (await Promise.all(rounds)).entries())
      expect(got).toEqual([0, 1].map((rank) => [...values((k) => round * (3 * k + 2 - rank))]))
  })

  it('keeps channels apart that peers use in another order', async () => {
    // Member 0 sends on channel 0, then takes from channel 1; member 1 sends on channel 1 before it takes from 0. Had
    // the sends to wait for each other, neither would come to its receive.
    const all = await ranks(2, (g, rank) => {
      const x = g.input('x', type)
      const message = { group: 'all', size: 2 }
      const send = (channel: number) =>
        g.op(
          'exchange',
          { ...message, channel, sends: whole([1 - rank], 'x'), receives: [], outputs: {} },
          { x },
        )
      const take = (channel: number) =>
        g.op(
          'exchange',
          { ...message, channel, sends: [], receives: whole([1 - rank], 'y'), outputs: { y: type } },
          {},
        ).y!
      send(rank)
      g.output('y', double(g, take(1 - rank)))
    })
    for (let round = 0; round < 20; round++)
      expect(await step(all, (rank, i) => round + rank + i)).toEqual(
        [1, 0].map((peer) => [...values((i) => 2 * (round + peer + i))]),
      )
  })

  it('lets sends leave beside later segments, as 1F1B needs it, and keeps their bytes', async () => {
    // Members send forwards 0 and 1 and only then take the first answer, which the other sends before it takes forward 1.
    const all = await ranks(2, (g, rank) => {
      const message = { group: 'all', size: 2 }
      const send = (channel: number, x: GraphValue) =>
        g.op(
          'exchange',
          { ...message, channel, sends: whole([1 - rank], 'x'), receives: [], outputs: {} },
          { x },
        )
      const take = (channel: number) => {
        const receives = whole([1 - rank], 'y')
        return g.op('exchange', { ...message, channel, sends: [], receives, outputs: { y: type } }, {}).y!
      }
      g.segment('first', () => {
        if (rank === 0) send(0, double(g, g.input('x', type)))
        else send(1, double(g, take(0)))
      })
      g.segment('second', () => {
        if (rank === 0) g.output('y', double(g, take(1)))
        // Overwrites what the first segment sends from.
        else g.output('z', double(g, double(g, g.input('x', type))))
      })
    })
    const [first, second] = all
    for (let round = 0; round < 20; round++) {
      const x = values((i) => round + i)
      for (const order of [0, 1]) first!.executable.run('first', { x: x.map((v) => v + order) })
      for (const order of [0, 1]) {
        second!.executable.run('first')
        const z = await second!.executable.step('second', { x })
        expect(floats(z.z!)).toEqual([...x.map((v) => 4 * v)])
        const { y } = await first!.executable.step('second')
        expect(floats(y!)).toEqual([...x.map((v) => 8 * (v + order))])
      }
    }
    await Promise.all(all.map(({ executable }) => executable.finished()))
  })

  describe('is told', () => {
    /** What each rank's step is rejected with, and how long that took at most, in seconds. */
    const failures = async (all: readonly Rank[], only = all): Promise<ExactmapError[]> => {
      const start = performance.now()
      const errors = await Promise.all(
        only.map(({ executable }) =>
          // A send alone leaves behind its segment.
          rejection(executable.step('main', { x: values(() => 1) }).then(() => executable.finished())),
        ),
      )
      expect(performance.now() - start).toBeLessThan(5000)
      return errors
    }

    it('that sizes differ, by both members', async () => {
      const all = await ranks(2, (g, rank) => {
        const x = g.input('x', type)
        const sends = rank === 0 ? whole([1], 'x') : []
        const receives = rank === 1 ? [{ peer: 0, port: 'y', offset: 0, bytes: 32 }] : []
        const outputs: Record<string, typeof type> = rank === 1 ? { y: tensorType('f32', 8) } : {}
        const { y } = g.op('exchange', { group: 'all', size: 2, channel: 2, sends, receives, outputs }, { x })
        g.output('y', y ?? double(g, x))
      })
      const errors = await failures(all)
      for (const [rank, error] of errors.entries()) {
        expect(error.code).toBe('device_lost')
        expect(error.message).toContain(`group 'all' channel 2, member ${rank} of 2`)
      }
      expect(errors.map((e) => e.message).join()).toContain('member 0 sends 384 bytes, member 1 receives 32')
      expect((await all[0]!.device.lost).message).toBe(errors[0]!.message)
      // The first cause stays, and a device opened anew works.
      expect((await rejection(all[1]!.executable.step('main'))).message).toBe(errors[1]!.message)
      for (const { device } of all) device.destroy()
      const again = await ranks(2, ring(2))
      expect((await step(again, (rank) => rank))[0]![0]).toBe(2)
    })

    it('which member does not come', async () => {
      process.env.EXACTMAP_EMULATED_NCCL_TIMEOUT = '1'
      const all = await ranks(2, ring(2))
      const [error] = await failures(all, all.slice(0, 1))
      expect(error!.code).toBe('device_lost')
      expect(error!.message).toMatch(
        /group 'all' channel 0, member 0 of 2: .*for 1 s member 0 waits for member 1 to receive 384 bytes and member 1 to send 384 bytes/,
      )
    })

    it('that a member is gone, also where it only waits for one that was told', async () => {
      const all = await ranks(4, ring(4))
      const [first, second, third, last] = all
      const waiting = failures(all, [first!, third!])
      // Nothing of this round is between the second and the last.
      await second!.executable.step('main')
      last!.device.destroy()
      for (const { code, message } of [...(await waiting), ...(await failures(all, [second!]))]) {
        expect(code).toBe('device_lost')
        expect(message).toMatch(/group 'all' channel \d, member \d of 4: .*member \d \(process \d+\) is gone/)
      }
    })
  })

  it('names the exchange that fails where steps run one by one', async () => {
    process.env.EXACTMAP_CUDA_EAGER = '1'
    process.env.EXACTMAP_EMULATED_NCCL_TIMEOUT = '1'
    const all = await ranks(2, (g, rank) => {
      const x = g.input('x', type)
      const sends = whole([1 - rank], 'x')
      g.op('exchange', { group: 'all', size: 2, channel: 0, sends, receives: [], outputs: {} }, { x })
      g.output('y', double(g, x))
    })
    const error = await rejection(all[0]!.executable.step('main', { x: values(() => 1) }))
    expect(error.place.launch).toContain('exchange')
    expect(error.message).toContain('member 0 waits for member 1 to receive 384 bytes')
  })

  it('refuses groups that do not fit the communicator', async () => {
    const [transport] = localTransports(1)
    const device = await openCudaEmulated()
    devices.push(device)
    const graph = new Graph('alone')
    ring(2)(graph, 0)
    const program = compile(graph, device.target)
    const load = (groups: Record<string, number[]>) =>
      rejection(loadForRank(device, program, { communicator: { transport: transport!, groups } }))
    expect((await load({})).message).toContain("group 'all' of the program has 2 members")
    expect((await rejection(device.load(program))).code).toBe('unsupported')
  })
})
