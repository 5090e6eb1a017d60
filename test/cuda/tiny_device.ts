import { expect } from 'vitest'
import {
  loadAddon,
  type NativeArena,
  type NativeDevice,
  type NativeProgram,
} from '../../backends/cuda/addon.ts'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { fnv1a } from '../../backends/cuda/byte_writer.ts'
import { ExactmapError } from '../../src/errors.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { encodeRaw, tinyImage, tinyProgram, WORDS } from './tiny_program.ts'

/** Why there is no emulated driver here; '' where there is one. It has three devices then. */
export async function whyNoDriver(): Promise<string> {
  process.env.EXACTMAP_EMULATED_DEVICES = '3'
  const device = await emulatedDevice()
  if (typeof device === 'string') return device
  device.destroy()
  return ''
}

export const words = (make: (i: number) => number): Uint8Array =>
  new Uint8Array(Uint32Array.from({ length: WORDS }, (_, i) => make(i)).buffer)
export const asWords = (bytes: Uint8Array): number[] => [
  ...new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4),
]

export interface Loaded {
  readonly device: NativeDevice
  readonly arenas: readonly NativeArena[]
  readonly program: NativeProgram
}

/** The tiny program's exchange is the host's. */
export const RANK = { members: { pair: 1 } }

/** The tiny program on a device, with arenas of its own. */
async function prepare(device: NativeDevice): Promise<Loaded> {
  device.loadModule('runtime_test', await tinyImage())
  const arenas = tinyProgram().arenas.map(({ kind, bytes }) => device.createArena(kind, bytes, true))
  return { device, arenas, program: await device.loadProgram(encodeRaw(tinyProgram()), arenas, RANK) }
}

export const openTiny = (index = 0): Promise<Loaded> =>
  prepare(loadAddon().openDevice(index, emulatedDriver()))

/** What a call throws, which must be an ExactmapError. */
export function failure(body: () => unknown): ExactmapError {
  try {
    body()
  } catch (error) {
    expect(error).toBeInstanceOf(ExactmapError)
    return error as ExactmapError
  }
  throw new Error('it did not fail')
}

/** What a promise is rejected with, which must be an ExactmapError. */
export const rejection = async (promise: Promise<unknown>): Promise<ExactmapError> => {
  const error = await promise.then(
    () => new Error('it did not fail'),
    (e) => e,
  )
  expect(error).toBeInstanceOf(ExactmapError)
  return error as ExactmapError
}

export const none = new Uint8Array(0)

/** The file with a body of other bytes and a header that fits. */
export function withBody(file: Uint8Array, body: Uint8Array): Uint8Array {
  const out = new Uint8Array(32 + body.length)
  out.set(file.subarray(0, 32))
  out.set(body, 32)
  const view = new DataView(out.buffer)
  view.setBigUint64(16, BigInt(body.length), true)
  view.setBigUint64(24, fnv1a(body), true)
  return out
}
