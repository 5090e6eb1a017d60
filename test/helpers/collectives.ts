import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Device, Outputs } from '../../backends/backend.ts'
import { localTransports } from '../../backends/local_transport.ts'
import { fillValues, integers, normal, seedOf, uniform } from '../../src/ops/cases.ts'
import { collectiveReference, collectiveTolerance } from '../../src/ops/collectives/reference.ts'
import type { Attributes, CaseInput, OpCall } from '../../src/ops/contract.ts'
import { checkCall, opContract } from '../../src/ops/index.ts'
import { type ChooseAlgorithm, lowerCollectives } from '../../src/parallel/collectives/lower.ts'
import { loadForRank } from '../../src/parallel/load_for_rank.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { formatOf } from '../../src/tensor/format.ts'
import type { TensorType } from '../../src/tensor/type.ts'
import {
  decodeTensor,
  decodeVector,
  encodeVector,
  type Vector,
  type VectorTensor,
} from '../../src/verify/vector.ts'

/** What each member of a group is given or gives, by port. */
export type MemberTensors = Readonly<Record<string, VectorTensor>>

/** A collective over a group: one call for all members, what each gives and what each must get. */
export interface CollectiveVector {
  readonly call: OpCall
  readonly inputs: readonly MemberTensors[]
  readonly outputs: readonly MemberTensors[]
}

const GROUP = 'g'

/** Inputs from streams seeded by op, size, member and port; outputs by the float64 reference. */
export function makeCollective(
  op: string,
  attrs: Attributes,
  specs: Readonly<Record<string, CaseInput>>,
): CollectiveVector {
  const types = Object.fromEntries(
    Object.entries(specs).map(([port, { shape, format }]): [string, TensorType] => [port, { shape, format }]),
  )
  const call = checkCall(opContract(op), { group: GROUP, ...attrs }, types)
  const seed = (member: number | string, port: string): number =>
    seedOf(`${op}/${attrs.size}/${member}/${port}`)
  const members = Array.from({ length: attrs.size as number }, (_, member) =>
    Object.fromEntries(
      Object.entries(specs).map(([port, spec]) => {
        if (op !== 'cross_entropy_parallel' || port === 'logits')
          return [port, fillValues(spec, seed(member, port))]
        // Weights and targets are everyone's, the latter counted from the own part's first column on.
        const values = fillValues(spec, seed('all', port))
        const first = member * types.logits!.shape[1]!
        return [port, port === 'targets' ? values.map((v) => (v - first) >>> 0) : values]
      }),
    ),
  )
  const inputs = members.map((values) => encoded(types, values))
  return {
    call,
    inputs,
    outputs: collectiveReference(call, inputs.map(decoded)).map((m) => encoded(call.outputs, m)),
  }
}

const encoded = (
  types: Readonly<Record<string, TensorType>>,
  values: Readonly<Record<string, Float64Array>>,
): Record<string, VectorTensor> =>
  Object.fromEntries(
    Object.entries(types).map(([port, type]) => [
      port,
      { type, bytes: formatOf(type.format).encode(values[port]!) },
    ]),
  )

const decoded = (tensors: MemberTensors): Record<string, Float64Array> =>
  Object.fromEntries(Object.entries(tensors).map(([port, tensor]) => [port, decodeTensor(tensor)]))

/**
 * Runs a collective on devices, one rank each; several ranks may share a device.
 *
 * @param members.choose algorithm for every rank
 * @param members.ranks rank of each member in the world; their own numbers if not given
 */
export async function runCollective(
  deviceOf: (rank: number) => Device,
  { call, inputs }: CollectiveVector,
  { choose, ranks = inputs.map((_, i) => i) }: { choose?: ChooseAlgorithm; ranks?: readonly number[] } = {},
): Promise<Outputs[]> {
  const graph = new Graph(call.op)
  const values = Object.fromEntries(
    Object.entries(call.inputs).map(([port, type]) => [port, graph.input(port, type)]),
  )
  for (const [port, value] of Object.entries(graph.op(call.op, call.attrs, values))) graph.output(port, value)
  const transports = localTransports(inputs.length)
  return Promise.all(
    ranks.map(async (rank, member) => {
      const device = deviceOf(rank)
      const program = compile(lowerCollectives(graph, { [GROUP]: member }, choose), device.target)
      const executable = await loadForRank(device, program, {
        communicator: { transport: transports[rank]!, groups: { [GROUP]: ranks } },
      })
      const given = Object.entries(inputs[member]!).map(([port, { bytes }]) => [port, bytes])
      const outputs = await executable.step('main', Object.fromEntries(given))
      await executable.finished()
      executable.destroy()
      return outputs
    }),
  )
}

/** The first element of a member that is outside its budget, as a line; '' when none is. */
export function wrongMember({ call, inputs, outputs }: CollectiveVector, got: readonly Outputs[]): string {
  const tolerances = collectiveTolerance(call, inputs.map(decoded))
  for (const [member, expected] of outputs.entries())
    for (const [port, { type, bytes }] of Object.entries(expected)) {
      const [want, have] = [bytes, got[member]![port]!].map((b) => decodeTensor({ type, bytes: b }))
      const wrong = want!.findIndex((v, i) => !(Math.abs(have![i]! - v) <= tolerances[member]![port]!(i)))
      if (wrong >= 0)
        return `${call.op}, member ${member} of ${inputs.length}: ${port}[${wrong}] expected ${want![wrong]}, got ${have![wrong]}`
    }
  return ''
}

/** The stored vectors: `<op>_<members>`. Elements of an all_reduce divide by the members in two of four. */
export function storedCollectives(): Record<string, () => CollectiveVector> {
  const sizes = [2, 3, 4, 8]
  const all: Record<string, () => CollectiveVector> = {}
  for (const size of sizes) {
    const add = (op: string, specs: Record<string, CaseInput>, attrs: Attributes = {}): void => {
      all[`${op}_${size}`] = () => makeCollective(op, { ...attrs, size }, specs)
    }
    add('all_reduce', { x: normal({ 2: [4, 6], 3: [5, 7], 4: [8, 9], 8: [5, 7] }[size]!) })
    add('reduce_scatter', { x: normal([2 * size, 7]) })
    add('all_gather', { x: normal([3, 5]) })
    add('all_to_all', { x: integers([2 * size, 5], 0, 2 ** 32) })
    add('rank_broadcast', { x: normal([37]) }, { root: size - 1 })
    add('cross_entropy_parallel', {
      logits: normal([5, 12], 2),
      targets: integers([5], 0, 12 * size),
      weights: uniform([5], 0, 1),
    })
  }
  return all
}

const folderOf = (root: string): string => join(root, 'collectives')

/** Writes the stored vectors of collectives. Returns how many and their bytes. */
export function writeCollectives(root: string): { count: number; bytes: number } {
  const folder = folderOf(root)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const files = Object.entries(storedCollectives()).map(([name, make]) => {
    const { call, inputs, outputs } = make()
    const ports = (members: readonly MemberTensors[]): Vector['inputs'] =>
      Object.fromEntries(
        members.flatMap((tensors, i) => Object.entries(tensors).map(([port, t]) => [`${i}.${port}`, t])),
      )
    const { op, attrs } = call
    const bytes = encodeVector({ op, name, attrs, inputs: ports(inputs), same: {}, outputs: ports(outputs) })
    writeFileSync(join(folder, `${name}.safetensors`), bytes)
    return bytes.length
  })
  return { count: files.length, bytes: files.reduce((a, b) => a + b, 0) }
}

/** Reads a stored vector of a collective. */
export async function readCollective(root: string, name: string): Promise<CollectiveVector> {
  const path = join(folderOf(root), `${name}.safetensors`)
  const { op, attrs, inputs, outputs } = await decodeVector(new Uint8Array(readFileSync(path)), path)
  const members = (tensors: Vector['inputs']): MemberTensors[] =>
    Array.from({ length: attrs.size as number }, (_, i) =>
      Object.fromEntries(
        Object.entries(tensors).flatMap(([port, tensor]) => {
          const [member, name] = port.split('.')
          return member === String(i) ? [[name!, tensor]] : []
        }),
      ),
    )
  const [given, expected] = [members(inputs), members(outputs)]
  const types = Object.fromEntries(Object.entries(given[0]!).map(([port, { type }]) => [port, type]))
  return { call: checkCall(opContract(op), attrs, types), inputs: given, outputs: expected }
}
