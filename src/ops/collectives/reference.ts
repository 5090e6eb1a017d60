import { check, ExactmapError } from '../../errors.ts'
import { elementCount, lastDim } from '../../tensor/type.ts'
import type { OpCall, OpContract, Ports, Tolerance } from '../contract.ts'
import { logSumExp } from '../cross_entropy.ts'
import { cross_entropy_join, cross_entropy_shard } from '../cross_entropy_shard.ts'
import { EPS_F32, exact, TINY_F32 } from '../tolerance.ts'
import type { GroupAttributes } from './group.ts'

type Values = Readonly<Record<string, Float64Array>>

/**
 * Float64 reference of a collective: what every member gets from what all members give, both by member number. `call`
 * is that of any of them, since they differ in values only.
 *
 * @throws ExactmapError `invalid_argument` for inputs of another number of members, `unsupported` for ops whose calls
 *   differ among members (send, receive, exchange)
 */
export function collectiveReference(
  call: OpCall,
  members: readonly Values[],
): Record<string, Float64Array>[] {
  const { size } = call.attrs as GroupAttributes
  check(
    members.length === size,
    'invalid_argument',
    `${call.op}: expected the inputs of ${size} members, got ${members.length}`,
  )
  const x = members.map((inputs) => inputs.x!)
  /** Part j of n of a member's values. */
  const part = (values: Float64Array, j: number): Float64Array =>
    values.subarray((j * values.length) / size, ((j + 1) * values.length) / size)
  const everyMember = (give: (member: number) => Float64Array): { y: Float64Array }[] =>
    members.map((_, member) => ({ y: give(member) }))
  switch (call.op) {
    case 'all_gather':
      return everyMember(() => joined(x))
    case 'all_reduce':
      return everyMember(() => total(x))
    case 'reduce_scatter':
      return everyMember((member) => total(x.map((values) => part(values, member))))
    case 'all_to_all':
      return everyMember((member) => joined(x.map((values) => part(values, member))))
    case 'rank_broadcast':
      return everyMember(() => x[call.attrs.root]!.slice())
    case 'cross_entropy_parallel': {
      const outputs = crossEntropy(call, members)
      return members.map(() => outputs)
    }
    default:
      throw new ExactmapError('unsupported', `${call.op}: what it gives depends on the calls of other ranks`)
  }
}

/**
 * Error budget of every member's outputs. Sums of n terms in whatever order: each of the n-1 additions rounds a partial
 * sum, which is at most sum|x| (Higham, Accuracy and Stability, section 4.2), and may flush a subnormal one; the stored
 * result of the reference rounds once more. What only moves is exact.
 */
export function collectiveTolerance(call: OpCall, members: readonly Values[]): Record<string, Tolerance>[] {
  const { size } = call.attrs as GroupAttributes
  if (call.op === 'cross_entropy_parallel') {
    const tolerance = crossEntropyTolerance(call, members)
    return members.map(() => tolerance)
  }
  if (call.op !== 'all_reduce' && call.op !== 'reduce_scatter') return members.map(() => ({ y: exact }))
  const magnitude = collectiveReference(
    call,
    members.map(({ x }) => ({ x: x!.map(Math.abs) })),
  )
  return magnitude.map(({ y }) => ({ y: (i) => size * (EPS_F32 * y![i]! + TINY_F32) }))
}

const total = (terms: readonly Float64Array[]): Float64Array =>
  terms[0]!.map((_, i) => terms.reduce((sum, values) => sum + values[i]!, 0))

function joined(parts: readonly Float64Array[]): Float64Array {
  const out = new Float64Array(parts.reduce((length, part) => length + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Row by row over the logits of all members side by side. */
function crossEntropy({ inputs }: OpCall, members: readonly Values[]): Record<string, Float64Array> {
  const width = lastDim(inputs.logits!.shape)
  const weights = members[0]!.weights!
  const lse = new Float64Array(weights.length)
  const loss = weights.map((weight, t) => {
    const rows = members.map(({ logits }) => logits!.subarray(t * width, (t + 1) * width))
    lse[t] = logSumExp(joined(rows))
    const target = members
      .map(({ targets }, member) => rows[member]![targets![t]!])
      .find((v) => v !== undefined)
    return weight === 0 ? 0 : weight * (lse[t]! - target!)
  })
  return { loss, lse }
}

/** What the join adds to the errors of the parts it is given: lse moves at most as far as the part that is most off. */
function crossEntropyTolerance(call: OpCall, members: readonly Values[]): Record<string, Tolerance> {
  const { logits, targets, weights } = call.inputs
  const typed = (op: Pick<OpContract, 'name' | 'infer'>, inputs: OpCall['inputs']): OpCall => ({
    op: op.name,
    attrs: {},
    inputs,
    outputs: op.infer({}, inputs),
  })
  const shard = typed(cross_entropy_shard, { logits: logits!, targets: targets! })
  const shards = members.map((given) => {
    const parts = cross_entropy_shard.reference(shard, given)
    return { parts: parts.parts!, tolerance: cross_entropy_shard.tolerance(shard, given, parts).parts! }
  })
  const { shape } = shard.outputs.parts!
  const join = typed(cross_entropy_join, {
    parts: { format: 'f32', shape: [members.length, ...shape] },
    weights: weights!,
  })
  const given: Ports<Float64Array> = {
    parts: joined(shards.map(({ parts }) => parts)),
    weights: members[0]!.weights!,
  }
  const own = cross_entropy_join.tolerance(join, given, cross_entropy_join.reference(join, given))
  const rows = elementCount(weights!.shape)
  const lse = (t: number): number => Math.max(...shards.map(({ tolerance }) => tolerance(t)))
  const logit = (t: number): number => shards.reduce((sum, { tolerance }) => sum + tolerance(rows + t), 0)
  return {
    lse: (t) => own.lse!(t) + lse(t),
    loss: (t) => own.loss!(t) + Math.abs(given.weights![t]!) * (lse(t) + logit(t)),
  }
}
