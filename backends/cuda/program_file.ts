import { check } from '../../src/errors.ts'
import { generateConstant } from '../../src/ops/constants.ts'
import { hashText } from '../../src/program/hash.ts'
import type { ArenaKind, Message, Program, Range, Step } from '../../src/program/program.ts'
import { formatOf } from '../../src/tensor/format.ts'
import { ByteWriter } from './byte_writer.ts'
import { scalarBits, tensorMapFields } from './signature.ts'
import type { CudaTarget } from './target.ts'
import type { Walkers } from './walker.ts'

/**
 * A program as the C runtime reads it (runtime/program.c): the launches with everything resolved that needs no device.
 * Ops, types and lifetimes stay behind; dependencies become the edges of a CUDA graph.
 *
 * All numbers are little endian and unaligned. `str`: u32 length, then UTF-8. `range`: u32 index of an arena, u64
 * offset (relative to the slot's start where the arena has slots), u64 bytes.
 *
 *     header   "EXACTMAP", u32 version, u32 0, u64 bytes of the body, u64 FNV-1a of the body
 *     body     str name, str target, u32 slots
 *              u32 groups    { str name, u32 size }          groups of ranks that exchanges name
 *              u32 arenas    { str kind, u32 external, u64 bytes, u64 slotBytes, str layoutHash }
 *              u32 data      { range, the bytes }            what is written into arenas at load
 *              u32 modules   { str name, str textHash }      textHash: of the text its image is built from
 *              u32 kernels   { str entry, u32 module, u32 threads, u32 shared: bytes of dynamic shared memory,
 *                              u32 parameters { u32 kind: 0 pointer, 1 scalar, 2 tensor map; u32 bytes: 8, 4 or 128;
 *                                               u64 value, of a pointer 1 where it is STREAMED;
 *                                               of a tensor map: u32 format: 0 f32, 1 f16, 2 bf16, 3 e4m3;
 *                                               u32 rows, width, boxRows, boxWidth, in elements } }
 *              u32 walkers   { str entry, u32 module, u32 threads, u32 shared, u32 kernels { u32 kernel } }
 *              u32 segments  { str name,
 *                              u32 steps { u32 kind, str name, u32 after { u32 step },
 *                                          kind 0, a launch: u32 kernel, u32 grid x, y, z,
 *                                                            u32 pointers, tensor maps among them
 *                                                              { u32 bound: 0 null, 1 a range follows }
 *                                          kind 1, a copy: range from, range to
 *                                          kind 2, an exchange: u32 group, u32 channel,
 *                                            u32 sends { u32 peer, range }, u32 receives { u32 peer, range } }
 *                              u32 walker: 0 where the steps are nodes of a graph, else 1 + its number,
 *                              u32 inputs { str name, range }, u32 outputs { str name, range } }
 */
export const PROGRAM_FILE_VERSION = 4

const PARAMETER_KINDS = { pointer: 0, scalar: 1, tensor_map: 2 } as const
const STEP_KINDS = { launch: 0, transfer: 1, exchange: 2 } as const

/**
 * Encodes a program that `target` compiled, some of whose segments run as one kernel each. Deterministic: equal programs
 * and walkers give equal bytes.
 */
export function encodeProgramFile(
  program: Program,
  target: CudaTarget,
  walkers: Walkers = new Map(),
): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter()
  const arenaIndex = new Map(program.arenas.map(({ kind }, i) => [kind, i]))
  const range = ({ arena, offset, bytes }: Range): void => {
    out.u32(arenaIndex.get(arena)!)
    out.u64(offset)
    out.u64(bytes)
  }

  out.text(program.name)
  out.text(program.target.name)
  out.u32(program.slots)
  const groups = Object.keys(program.groups)
  out.list(groups, (group) => {
    out.text(group)
    out.u32(program.groups[group]!)
  })
  out.list(program.arenas, ({ kind, external, bytes, slotBytes, layoutHash }) => {
    out.text(kind)
    out.u32(Number(external))
    out.u64(bytes)
    out.u64(slotBytes)
    out.text(layoutHash)
  })

  const constants = program.arenas.find((a) => a.kind === 'constants')?.tensors ?? []
  out.list(constants, ({ name, type, offset, bytes, generator }) => {
    check(generator, 'invalid_program', `constant ${name} has no generator`)
    const data = formatOf(type.format).encode(generateConstant(generator.name, generator.attrs).values)
    check(
      data.byteLength === bytes,
      'invalid_program',
      `constant ${name} has ${data.byteLength} bytes, not ${bytes}`,
    )
    range({ arena: 'constants' satisfies ArenaKind, offset, bytes })
    out.bytes(data)
  })

  const distinct = [...new Map([...walkers.values()].map((walker) => [walker.module, walker])).values()]
  const hashes = new Map([
    ...program.kernels.map((k) => [k.modules[0]!, k.textHash] as const),
    ...distinct.map((walker) => [walker.module, hashText(walker.text)] as const),
  ])
  const modules = [...hashes.keys()]
  out.list(modules, (module) => {
    out.text(module)
    out.text(hashes.get(module)!)
  })
  out.list(program.kernels, ({ name, modules: [module], constants }) => {
    const { threads, shared, parameters } = target.signature(name)
    out.text(name)
    out.u32(modules.indexOf(module!))
    out.u32(threads)
    out.u32(shared)
    out.list(parameters, (p) => {
      out.u32(PARAMETER_KINDS[p.kind])
      out.u32(p.kind === 'tensor_map' ? 128 : p.kind === 'pointer' || p.type === 'u64' ? 8 : 4)
      out.u64(
        p.kind === 'scalar'
          ? scalarBits(constants[p.name], p.type, `${name}.${p.name}`)
          : Number(p.kind === 'pointer' && p.streamed),
      )
      if (p.kind !== 'tensor_map') return
      for (const field of tensorMapFields.map((f) => `${p.name}.${f}`))
        out.u32(Number(scalarBits(constants[field], 'u32', `${name}.${field}`)))
    })
  })

  out.list(distinct, ({ module, signature, kernels }) => {
    out.text(signature.name)
    out.u32(modules.indexOf(module))
    out.u32(signature.threads)
    out.u32(signature.shared)
    out.list(kernels, (kernel) => out.u32(kernel))
  })

  const message = (one: Message): void => {
    out.u32(one.peer)
    range(one)
  }
  const step = (one: Step): void => {
    out.u32(STEP_KINDS[one.kind])
    out.text(one.name)
    out.list(one.after, (i) => out.u32(i))
    if (one.kind === 'transfer') {
      range(one.from)
      range(one.to)
      return
    }
    if (one.kind === 'exchange') {
      out.u32(groups.indexOf(one.group))
      out.u32(one.channel)
      out.list(one.sends, message)
      out.list(one.receives, message)
      return
    }
    out.u32(one.kernel)
    for (const size of one.workgroups) out.u32(size)
    const pointers = target
      .signature(program.kernels[one.kernel]!.name)
      .parameters.filter((p) => p.kind !== 'scalar')
    out.list(pointers, ({ name }) => {
      const bound = one.bindings.find((b) => b.name === name)
      out.u32(bound ? 1 : 0)
      if (bound) range(bound)
    })
  }
  out.list(program.segments, ({ name, steps, inputs, outputs }) => {
    out.text(name)
    out.list(steps, step)
    const { module } = walkers.get(name) ?? {}
    out.u32(1 + distinct.findIndex((walker) => walker.module === module))
    for (const ports of [inputs, outputs])
      out.list(ports, (port) => {
        out.text(port.name)
        range(port)
      })
  })
  return out.finish('EXACTMAP', PROGRAM_FILE_VERSION)
}
