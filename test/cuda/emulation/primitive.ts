import type { CaseFile } from '../../../backends/cuda/case_file.ts'
import { encodeProgramFile } from '../../../backends/cuda/program_file.ts'
import type { CudaTarget } from '../../../backends/cuda/target.ts'
import { hashText } from '../../../src/program/hash.ts'
import type { Program, Range } from '../../../src/program/program.ts'
import type { FormatName } from '../../../src/tensor/format.ts'

/** A matrix in a buffer with the box that is copied at a time, in elements. */
export interface Matrix {
  readonly buffer: string
  readonly format: 'f32' | 'f16' | 'bf16' | 'e4m3'
  readonly rows: number
  readonly width: number
  readonly box: readonly [rows: number, width: number]
}

/**
 * One launch of a kernel of this folder that does little but what it is named for, with every byte that it must give:
 * where the emulation and a GPU differ, the manual was misread. Tests run it on the emulated device, `npm run gpu` on a
 * GPU, ahead of all that is made of such pieces.
 */
export interface Primitive {
  /** A `.cu` file of this folder. */
  readonly file: string
  readonly kernel: string
  readonly name: string
  readonly grid?: number
  /** What lies in memory at the start; what the kernel writes alone is all ones. */
  readonly buffers: Readonly<Record<string, Uint8Array>>
  /** By parameter: a buffer, a scalar or a matrix. */
  readonly given: Readonly<Record<string, string | number | Matrix>>
  /** Buffers as they must be at the end. */
  readonly expected: Readonly<Record<string, Float32Array | Uint32Array>>
}

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
export const bytesOf = (data: ArrayBufferView): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
/** Room for what a kernel writes, which is a NaN until then. */
export const unwritten = (words: number): Uint8Array => new Uint8Array(4 * words).fill(0xff)

const formatNumber = { f32: 0, f16: 1, bf16: 2, e4m3: 3 } as const
const elementBytes = { f32: 4, f16: 2, bf16: 2, e4m3: 1 } as const

/** A launch for host.cpp, which then reads the buffers of `expected`, in order. */
export function scriptOf(one: Primitive, target: CudaTarget): string[] {
  const { threads, shared, parameters } = target.signature(one.kernel)
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
  const maps = Object.entries(one.given).flatMap(([name, value]) => {
    if (typeof value !== 'object') return []
    const { buffer, format, rows, width, box } = value
    return [
      `map map_${name} ${buffer} ${rows} ${width} ${width * elementBytes[format]} ${box.join(' ')} ${format}`,
    ]
  })
  const given = parameters.map((p) => {
    const value = one.given[p.name]!
    return typeof value === 'object' ? `map_${p.name}` : typeof value === 'number' ? `u32:${value}` : value
  })
  return [
    ...Object.entries(one.buffers).flatMap(([name, bytes]) => [
      `alloc ${name} ${bytes.length}`,
      `write ${name} ${hex(bytes)}`,
    ]),
    ...maps,
    ...(shared > 0 ? [`shared ${one.kernel} ${shared}`] : []),
    `launch - ${one.kernel} ${one.grid ?? 1} ${threads} ${given.join(' ')}`,
    ...Object.entries(one.expected).map(([name, { byteLength }]) => `read ${name} ${byteLength}`),
  ]
}

/** The same for `exactmap-cuda verify`; every buffer lies in the arena of inputs. */
export function primitiveCase(one: Primitive, target: CudaTarget): { file: CaseFile; program: Program } {
  const signature = target.signature(one.kernel)
  const aligned = (bytes: number): number => Math.ceil(bytes / 256) * 256
  const places: Record<string, Range> = {}
  let room = 0
  for (const [name, { length }] of Object.entries(one.buffers)) {
    places[name] = { arena: 'step_input', offset: room, bytes: length }
    room += aligned(length)
  }
  const inputs = new Uint8Array(room)
  for (const [name, bytes] of Object.entries(one.buffers)) inputs.set(bytes, places[name]!.offset)
  const format = (data: Float32Array | Uint32Array): FormatName =>
    data instanceof Float32Array ? 'f32' : 'u32'
  const id = `${one.file}/${one.name}`
  const program: Program = {
    format: 'exactmap-program',
    version: 1,
    name: id,
    target: { name: target.name, backend: target.backend, hash: '' },
    arenas: [
      {
        kind: 'step_input',
        external: false,
        bytes: room,
        buffers: [room],
        slotBytes: 0,
        layoutHash: '',
        tensors: [],
      },
    ],
    kernels: [
      {
        name: one.kernel,
        modules: [signature.module],
        constants: Object.fromEntries(
          Object.entries(one.given).flatMap(([name, value]) =>
            typeof value === 'number'
              ? [[name, value] as const]
              : typeof value === 'string'
                ? []
                : [
                    [`${name}.format`, formatNumber[value.format]] as const,
                    [`${name}.rows`, value.rows] as const,
                    [`${name}.width`, value.width] as const,
                    [`${name}.box_rows`, value.box[0]] as const,
                    [`${name}.box_width`, value.box[1]] as const,
                  ],
          ),
        ),
        textHash: hashText(target.moduleText(signature.module)),
      },
    ],
    segments: [
      {
        name: 'main',
        steps: [
          {
            kind: 'launch',
            index: 0,
            name: one.name,
            queue: 'compute',
            after: [],
            kernel: 0,
            workgroups: [one.grid ?? 1, 1, 1],
            bindings: Object.entries(one.given).flatMap(([name, value]) =>
              typeof value === 'number'
                ? []
                : [
                    {
                      name,
                      access: 'read_write' as const,
                      ...places[typeof value === 'string' ? value : value.buffer]!,
                    },
                  ],
            ),
            call: { op: one.kernel, attrs: {}, inputs: {}, outputs: {} },
            part: [0, 1],
            flops: 0,
          },
        ],
        inputs: [],
        outputs: Object.entries(one.expected).map(([name, data]) => ({
          name,
          type: { shape: [data.length], format: format(data) },
          ...places[name]!,
        })),
      },
    ],
    slots: 1,
    groups: {},
  }
  return {
    program,
    file: {
      id,
      bytes: room,
      flops: 0,
      program: encodeProgramFile(program, target),
      inputs: { offset: 0, bytes: inputs },
      outputs: Object.entries(one.expected).map(([name, data]) => ({
        name,
        format: format(data),
        elements: data.length,
        expected: bytesOf(data),
      })),
    },
  }
}
