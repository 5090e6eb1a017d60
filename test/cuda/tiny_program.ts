import { EmulatedImages } from '../../backends/cuda/build/emulated.ts'
import { ByteWriter } from '../../backends/cuda/byte_writer.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { PROGRAM_FILE_VERSION } from '../../backends/cuda/program_file.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { walkerText } from '../../backends/cuda/walker.ts'

/** A program file field by field, so that a test can set each to anything. */
export interface RawProgram {
  slots: number
  groups: { name: string; size: number }[]
  arenas: { kind: string; external: number; bytes: number; slotBytes: number }[]
  data: { range: RawRange; bytes: Uint8Array }[]
  modules: string[]
  kernels: {
    entry: string
    module: number
    threads: number
    shared: number
    parameters: { kind: number; bytes: number; value: bigint; map?: RawMap }[]
  }[]
  walkers: { entry: string; module: number; threads: number; shared: number; kernels: number[] }[]
  segments: {
    name: string
    steps: RawStep[]
    /** 1 + index of its walker; without one its steps are nodes of a graph. */
    walker?: number
    inputs: { name: string; range: RawRange }[]
    outputs: { name: string; range: RawRange }[]
  }[]
}

export interface RawMap {
  format: number
  rows: number
  width: number
  boxRows: number
  boxWidth: number
}

export type RawRange = [arena: number, offset: number, bytes: number]

export interface RawStep {
  kind: number
  name: string
  after: number[]
  kernel: number
  grid: number[]
  pointers: (RawRange | undefined)[]
  from?: RawRange
  to?: RawRange
  exchange?: RawExchange
}

export interface RawExchange {
  group: number
  channel: number
  sends: RawMessage[]
  receives: RawMessage[]
}

export type RawMessage = [peer: number, ...range: RawRange]

export function encodeRaw(program: RawProgram): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter()
  const range = ([arena, offset, bytes]: RawRange): void => {
    out.u32(arena)
    out.u64(offset)
    out.u64(bytes)
  }
  out.text('tiny')
  out.text('test')
  out.u32(program.slots)
  out.list(program.groups, ({ name, size }) => {
    out.text(name)
    out.u32(size)
  })
  out.list(program.arenas, ({ kind, external, bytes, slotBytes }) => {
    out.text(kind)
    out.u32(external)
    out.u64(bytes)
    out.u64(slotBytes)
    out.text('layout')
  })
  out.list(program.data, (blob) => {
    range(blob.range)
    out.bytes(blob.bytes)
  })
  out.list(program.modules, (name) => {
    out.text(name)
    out.text('hash')
  })
  out.list(program.kernels, ({ entry, module, threads, shared, parameters }) => {
    out.text(entry)
    out.u32(module)
    out.u32(threads)
    out.u32(shared)
    out.list(parameters, ({ kind, bytes, value, map }) => {
      out.u32(kind)
      out.u32(bytes)
      out.u64(value)
      if (!map) return
      out.u32(map.format)
      out.u32(map.rows)
      out.u32(map.width)
      out.u32(map.boxRows)
      out.u32(map.boxWidth)
    })
  })
  out.list(program.walkers, ({ entry, module, threads, shared, kernels }) => {
    out.text(entry)
    out.u32(module)
    out.u32(threads)
    out.u32(shared)
    out.list(kernels, (kernel) => out.u32(kernel))
  })
  out.list(program.segments, ({ name, steps, walker = 0, inputs, outputs }) => {
    out.text(name)
    out.list(steps, (step) => {
      out.u32(step.kind)
      out.text(step.name)
      out.list(step.after, (i) => out.u32(i))
      if (step.from && step.to) {
        range(step.from)
        range(step.to)
        return
      }
      if (step.exchange) {
        const { group, channel, sends, receives } = step.exchange
        out.u32(group)
        out.u32(channel)
        for (const messages of [sends, receives])
          out.list(messages, ([peer, ...place]) => {
            out.u32(peer)
            range(place)
          })
        return
      }
      out.u32(step.kernel)
      for (const size of step.grid) out.u32(size)
      out.list(step.pointers, (pointer) => {
        out.u32(pointer ? 1 : 0)
        if (pointer) range(pointer)
      })
    })
    out.u32(walker)
    for (const ports of [inputs, outputs])
      out.list(ports, (port) => {
        out.text(port.name)
        range(port.range)
      })
  })
  return out.finish('EXACTMAP', PROGRAM_FILE_VERSION)
}

/** Words of each tensor of the tiny program. */
export const WORDS = 64
const BYTES = 4 * WORDS

const pointer = () => ({ kind: 0, bytes: 8, value: 0n })

/**
 * Two slots. `sum`: y = x + table, z = y + y by way of a copy. `add_state`: state += y. `fault` writes where no memory
 * is. `swap`: y goes to member 0 and to z, whose y comes in place of the copy. `walk`: y = x + table, z = y + table, as
 * one kernel.
 */
export function tinyProgram(): RawProgram {
  const [input, activations, constants, state] = [0, 1, 2, 3]
  const x: RawRange = [input, 0, BYTES]
  const y: RawRange = [activations, 0, BYTES]
  const copy: RawRange = [activations, 256, BYTES]
  const z: RawRange = [activations, 512, BYTES]
  const table: RawRange = [constants, 0, BYTES]
  const total: RawRange = [state, 0, BYTES]
  const add = (name: string, after: number[], pointers: RawRange[]): RawStep => ({
    kind: 0,
    name,
    after,
    kernel: 0,
    grid: [2, 1, 1],
    pointers,
  })
  return {
    slots: 2,
    groups: [{ name: 'pair', size: 2 }],
    arenas: [
      { kind: 'step_input', external: 0, bytes: BYTES, slotBytes: 0 },
      { kind: 'activations', external: 0, bytes: 2048, slotBytes: 1024 },
      { kind: 'constants', external: 0, bytes: BYTES, slotBytes: 0 },
      { kind: 'state', external: 1, bytes: BYTES, slotBytes: 0 },
    ],
    data: [{ range: table, bytes: new Uint8Array(Uint32Array.from({ length: WORDS }, (_, i) => i).buffer) }],
    modules: ['runtime_test'],
    kernels: [
      {
        entry: 'test_add',
        module: 0,
        threads: 32,
        shared: 0,
        parameters: [pointer(), pointer(), pointer(), { kind: 1, bytes: 4, value: BigInt(WORDS) }],
      },
      {
        entry: 'test_fault',
        module: 0,
        threads: 32,
        shared: 0,
        parameters: [pointer(), { kind: 1, bytes: 8, value: 1n << 45n }],
      },
    ],
    walkers: [{ entry: 'walk', module: 0, threads: 512, shared: 224256, kernels: [0] }],
    segments: [
      {
        name: 'sum',
        steps: [
          add('sum/first', [], [x, table, y]),
          { ...add('sum/copy', [0], []), kind: 1, from: y, to: copy },
          add('sum/second', [0, 1], [y, copy, z]),
        ],
        inputs: [{ name: 'x', range: x }],
        outputs: [
          { name: 'y', range: [activations, 0, 12] },
          { name: 'z', range: z },
        ],
      },
      {
        name: 'add_state',
        steps: [
          { ...add('state/copy', [], []), kind: 1, from: total, to: copy },
          add('state/add', [0], [y, copy, total]),
        ],
        inputs: [],
        outputs: [{ name: 'total', range: total }],
      },
      {
        name: 'fault',
        steps: [
          add('fault/before', [], [x, table, y]),
          { ...add('fault/launch', [0], [y]), kernel: 1, grid: [1, 1, 1] },
        ],
        inputs: [],
        outputs: [],
      },
      {
        name: 'swap',
        steps: [
          {
            ...add('swap/exchange', [], []),
            kind: 2,
            exchange: {
              group: 0,
              channel: 3,
              sends: [
                [0, ...y],
                [1, ...y],
              ],
              receives: [
                [0, ...copy],
                [1, ...z],
              ],
            },
          },
        ],
        inputs: [],
        outputs: [{ name: 'z', range: z }],
      },
      {
        name: 'walk',
        steps: [add('walk/first', [], [x, table, y]), add('walk/second', [0], [y, table, z])],
        walker: 1,
        inputs: [{ name: 'x', range: x }],
        outputs: [{ name: 'z', range: z }],
      },
    ],
  }
}

const KERNELS = `#include "lib/kernel.h"

KERNEL(test_add, 32, const uint32_t* a, const uint32_t* b, uint32_t* y, uint32_t count) {
  const uint32_t i = blockIdx.x * 32 + threadIdx.x;
  if (i < count) y[i] = a[i] + b[i];
}

KERNEL(test_fault, 32, uint32_t* y, uint64_t index) { y[index + threadIdx.x] = 1; }
`

/** The image of the tiny program's module for the emulated device, its walker among the kernels. */
export function tinyImage(): Promise<Uint8Array> {
  const sources = new Map([...readCudaSources(), ['runtime_test.cu', KERNELS]])
  const target = cudaTarget(Object.values(cudaTraits)[0]!, sources)
  // Behind the kernels of the usual form, which declare everything that lib/kernel.h has.
  const walker = walkerText([{ name: 'test_add', constants: { count: WORDS } }], target)
    .split(/^(?=#line 1 ")/m)
    .filter((part) => !part.startsWith('#line 1 "kernels-cuda/lib/kernel.h"'))
  return new EmulatedImages().image('runtime_test', [target.moduleText('runtime_test'), ...walker].join('\n'))
}
