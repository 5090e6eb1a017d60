import type { FormatName } from '../../src/tensor/format.ts'
import { ByteWriter } from './byte_writer.ts'

/** A stored vector with its program, for `exactmap-cuda verify`. */
export interface CaseFile {
  /** `op/case`. */
  readonly id: string
  /** Bytes of all operands and floating point operations, for the speed in the record. */
  readonly bytes: number
  readonly flops: number
  /** A program file; its segment `main` is run, or where it has none all of its segments, in order. */
  readonly program: Uint8Array
  /** What goes into the arena step_input. */
  readonly inputs: { readonly offset: number; readonly bytes: Uint8Array }
  /** What other arenas hold before the first run; they are zeroed, but for the activations. */
  readonly initial?: readonly {
    readonly arena: string
    readonly offset: number
    readonly bytes: Uint8Array
  }[]
  /** Seeded values written into arenas, for sizes that no file should hold. */
  readonly fills?: readonly {
    readonly arena: string
    readonly offset: number
    readonly format: FormatName
    readonly elements: number
    readonly seed: number
  }[]
  /** None: the case is only timed. */
  readonly outputs: readonly CaseOutput[]
}

export interface CaseOutput {
  readonly name: string
  /** Block formats are compared byte by byte. */
  readonly format: FormatName
  readonly elements: number
  readonly expected: Uint8Array
  /** Largest allowed difference of each element from the expected value; absent: they must be equal. */
  readonly tolerances?: Float32Array
}

export const CASE_FILE_VERSION = 1

/** Encodes a case; the format is described in executable/case_file.h. */
export function encodeCaseFile(one: CaseFile): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter()
  out.text(one.id)
  out.f64(one.bytes)
  out.f64(one.flops)
  out.blob(one.program)
  out.u64(one.inputs.offset)
  out.blob(one.inputs.bytes)
  out.list(one.initial ?? [], ({ arena, offset, bytes }) => {
    out.text(arena)
    out.u64(offset)
    out.blob(bytes)
  })
  out.list(one.fills ?? [], ({ arena, offset, format, elements, seed }) => {
    out.text(arena)
    out.u64(offset)
    out.text(format)
    out.u64(elements)
    out.u64(seed)
  })
  out.list(one.outputs, ({ name, format, elements, expected, tolerances }) => {
    out.text(name)
    out.text(format)
    out.u64(elements)
    out.blob(expected)
    out.u32(tolerances?.length ?? 0)
    if (tolerances) out.bytes(new Uint8Array(tolerances.buffer, tolerances.byteOffset, tolerances.byteLength))
  })
  return out.finish('EXMCASE1', CASE_FILE_VERSION)
}
