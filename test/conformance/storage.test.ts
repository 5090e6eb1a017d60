import { afterAll, describe, expect, it } from 'vitest'
import type { Device } from '../../backends/backend.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { e4m3ToNumber } from '../../src/tensor/float_bits.ts'
import { type FormatName, formatOf } from '../../src/tensor/format.ts'
import { Philox } from '../../src/tensor/philox.ts'
import type { TensorType } from '../../src/tensor/type.ts'
import { emulatedDevice } from '../helpers/cuda.ts'

// What the device stores must be the very bytes that the host's encoders give; stored vectors compare decoded
// numbers, which can't see a padding byte, the sign of a zero scale, or a rare division off by an ulp.
const devices: Record<string, Device | string> = {
  webgpu: await openNodeWebGpu(),
  'cuda-emulated': await emulatedDevice(),
}
afterAll(() => {
  for (const device of Object.values(devices)) if (typeof device !== 'string') device.destroy()
})

async function converted(
  device: Device,
  op: 'cast' | 'quantize',
  to: FormatName,
  type: TensorType,
  bytes: Uint8Array,
): Promise<Uint8Array> {
  const graph = new Graph(`${op}_${type.format}_${to}`)
  graph.output('y', graph.op(op, { to }, { x: graph.input('x', type) }).y!)
  const executable = await device.load(compile(graph, device.target))
  try {
    return (await executable.step('main', { x: bytes })).y!
  } finally {
    executable.destroy()
  }
}

/** First differing byte as text; '' if there is none. */
function difference(got: Uint8Array, expected: Uint8Array): string {
  if (got.length !== expected.length) return `${got.length} bytes, expected ${expected.length}`
  const at = got.findIndex((byte, i) => byte !== expected[i])
  return at < 0 ? '' : `byte ${at}: got ${got[at]}, expected ${expected[at]}`
}

const ROWS = 512
const WIDTH = 128

/** Of formats of small floats: the largest quant, and numbers halfway between two. */
const E2M1_TIES = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5]
const E4M3_TIES = Array.from({ length: 126 }, (_, code) => (e4m3ToNumber(code) + e4m3ToNumber(code + 1)) / 2)

/** The quotient of a block's largest element, and one that is a tie. */
const quotients: Record<string, { readonly last: number; readonly tie: (random: Philox) => number }> = {
  q8_0: { last: 127, tie: (random) => random.integer(254) - 127 + 0.5 },
  q4_0: { last: -8, tie: (random) => random.integer(16) - 8 + 0.5 },
  e4m3_128: { last: 448, tie: (random) => E4M3_TIES[random.integer(E4M3_TIES.length)]! },
  mxfp8: { last: 448, tie: (random) => E4M3_TIES[random.integer(E4M3_TIES.length)]! },
  nvfp4: { last: 6, tie: (random) => E2M1_TIES[random.integer(E2M1_TIES.length)]! },
}

/** Rows of very different magnitude; every other row has quotients on or one ulp beside a tie. */
function hardRows(to: FormatName): Float64Array {
  const { last, tie } = quotients[to]!
  const { blockSize } = formatOf(to)
  const random = new Philox(20)
  const out = new Float64Array(ROWS * WIDTH)
  const ulp = new Uint32Array(1)
  const float = new Float32Array(ulp.buffer)
  for (let row = 0; row < ROWS; row++) {
    // Scales of blocks in nvfp4 are e4m3, those of mxfp8 powers of two: only such ones make ties.
    const scale =
      to === 'nvfp4'
        ? e4m3ToNumber(1 + random.integer(126))
        : (to === 'mxfp8' ? 1 : 1 + random.integer(1024) / 1024) * 2 ** (random.integer(36) - 20)
    for (let c = 0; c < WIDTH; c++) {
      const i = row * WIDTH + c
      if (row % 2 === 0) out[i] = random.normal() * scale
      else {
        float[0] = (c % blockSize === 0 ? last : tie(random) * (random.integer(2) * 2 - 1)) * scale
        if (c % blockSize !== 0) ulp[0]! += random.integer(3) - 1
        out[i] = float[0]
      }
    }
  }
  // The scale of the whole tensor is 1.
  if (to === 'nvfp4') out[0] = 6 * 448
  return out
}

describe.each(Object.entries(devices))('quantize on %s', (_name, device) => {
  for (const to of Object.keys(quotients) as FormatName[])
    it(`gives the encoder's bytes for ${to}`, async (ctx) => {
      if (typeof device === 'string') return ctx.skip(device)
      const values = hardRows(to)
      const type: TensorType = { format: 'f32', shape: [ROWS, WIDTH] }
      expect(
        difference(
          await converted(device, 'quantize', to, type, formatOf('f32').encode(values)),
          formatOf(to).encode(values),
        ),
      ).toBe('')
    })

  for (const to of ['e4m3_128', 'mxfp8', 'nvfp4'] as const)
    it(`makes blocks with numbers that are not finite NaN in ${to}`, async (ctx) => {
      if (typeof device === 'string') return ctx.skip(device)
      const values = new Float64Array(4 * WIDTH).fill(1.5)
      values[5] = Number.NaN
      values[2 * WIDTH] = Number.NEGATIVE_INFINITY
      const type: TensorType = { format: 'f32', shape: [4, WIDTH] }
      expect(
        difference(
          await converted(device, 'quantize', to, type, formatOf('f32').encode(values)),
          formatOf(to).encode(values),
        ),
      ).toBe('')
    })
})

describe.each(Object.entries(devices))('cast on %s', (_name, device) => {
  const random = new Philox(21)
  // Every other one where e4m3 has its numbers, half of these a tie or one beside it.
  const bits = Uint32Array.from({ length: 65537 }, (_, i) => {
    const any = random.nextU32()
    if (i % 2 === 0) return any
    const near = ((any & 0x807fffff) | ((114 + ((any >>> 23) % 16)) << 23)) >>> 0
    return i % 4 === 1 ? near : (near & 0xfff80000) + random.integer(3) - 1
  })
  const floats = new Float32Array(bits.buffer)
  for (const to of ['f16', 'bf16', 'e4m3'] as const)
    it(`gives the encoder's bytes for f32 of any bits to ${to}`, async (ctx) => {
      if (typeof device === 'string') return ctx.skip(device)
      const got = await converted(
        device,
        'cast',
        to,
        { format: 'f32', shape: [bits.length] },
        new Uint8Array(bits.buffer),
      )
      expect(difference(got, formatOf(to).encode(floats))).toBe('')
    })
  for (const from of ['f16', 'bf16', 'e4m3'] as const)
    it(`gives the f32 of every ${from}`, async (ctx) => {
      if (typeof device === 'string') return ctx.skip(device)
      const all = new Uint8Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer)
      const count = all.length / formatOf(from).blockBytes
      const got = formatOf('f32').decode(
        await converted(device, 'cast', 'f32', { format: from, shape: [count] }, all),
        count,
      )
      const expected = formatOf(from).decode(all, count)
      expect(got.findIndex((v, i) => !Object.is(v, expected[i]))).toBe(-1)
    })
})
