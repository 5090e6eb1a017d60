import { check, ExactmapError } from '../errors.ts'
import { byteSize, type TensorType } from '../tensor/type.ts'
import { hashOf } from './hash.ts'
import type { ArenaKind, ArenaPlan, Program, TensorPlan } from './program.ts'

/** Tensors start at multiples of this in every arena of every backend, so that layouts are interchangeable. */
export const TENSOR_ALIGNMENT = 256

export const alignTensor = (bytes: number): number => Math.ceil(bytes / TENSOR_ALIGNMENT) * TENSOR_ALIGNMENT

export interface ArenaTensor {
  readonly name: string
  readonly type: TensorType
  readonly shared?: boolean
}

/** Where the parts of a layout are, in bytes. */
export interface LayoutMarks {
  /** Matrices end and vectors begin here. */
  readonly vectorsAt: number
  readonly shared: readonly [from: number, to: number]
}

/**
 * Layout of an external arena. Tensors of rank 2 and more come first (AdamW decays them), then vectors, each in
 * code-point order of their names: the canonical order. Shared ones, which several ranks have whole, lie together: last
 * among the matrices and first among the vectors. Arenas with the same tensors and formats of the same size mirror each
 * other's offsets.
 */
export function externalLayout(
  kind: ArenaKind,
  tensors: readonly ArenaTensor[],
  chunk: number,
): ArenaPlan & LayoutMarks {
  const isVector = ({ type }: ArenaTensor): boolean => type.shape.length < 2
  const part = (t: ArenaTensor): number => (isVector(t) ? (t.shared ? 2 : 3) : t.shared ? 1 : 0)
  const sorted = [...tensors].sort(
    (a, b) => part(a) - part(b) || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
  )
  const plans: TensorPlan[] = []
  let end = 0
  let vectorsAt = -1
  let shared: [from: number, to: number] = [0, 0]
  for (const tensor of sorted) {
    const { name, type } = tensor
    const bytes = byteSize(type)
    check(
      bytes <= chunk,
      'out_of_memory',
      `${kind} tensor ${name} has ${bytes} bytes, a device buffer at most ${chunk}`,
    )
    if (Math.floor(end / chunk) !== Math.floor((end + bytes - 1) / chunk))
      end = Math.ceil(end / chunk) * chunk
    if (isVector(tensor) && vectorsAt < 0) vectorsAt = end
    plans.push({ name, type, offset: end, bytes })
    const start = end
    end = alignTensor(end + bytes)
    if (tensor.shared) shared = [shared[1] === 0 ? start : shared[0], end]
  }
  return {
    ...arenaPlan(kind, true, end, 0, 1, plans, chunk),
    vectorsAt: vectorsAt < 0 ? end : vectorsAt,
    shared,
  }
}

/** Completes an arena's plan: buffers and layout hash. `bytes` is per slot. */
export function arenaPlan(
  kind: ArenaKind,
  external: boolean,
  bytes: number,
  slotBytes: number,
  slots: number,
  tensors: readonly TensorPlan[],
  chunk: number,
): ArenaPlan {
  const one: number[] = []
  for (let at = 0; at < bytes; at += chunk) one.push(Math.min(chunk, bytes - at))
  const buffers = Array.from({ length: slots }, () => one).flat()
  const layoutHash = hashOf(tensors.map(({ name, type, offset }) => [name, type.format, type.shape, offset]))
  return { kind, external, bytes: bytes * slots, buffers, slotBytes, layoutHash, tensors }
}

/**
 * Checks that arenas given to a program are laid out as it needs them.
 *
 * @throws ExactmapError `conflict`
 */
export function requireLayouts(
  program: Program,
  given: Partial<Record<ArenaKind, { readonly plan: ArenaPlan }>> = {},
): void {
  for (const { kind, layoutHash } of program.arenas) {
    const plan = given[kind]?.plan
    if (plan && plan.layoutHash !== layoutHash)
      throw new ExactmapError(
        'conflict',
        `arena '${kind}' has layout ${plan.layoutHash}, the program needs ${layoutHash}`,
        { program: program.name },
      )
  }
}
