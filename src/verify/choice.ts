import type { Device } from '../../backends/backend.ts'
import { ExactmapError } from '../errors.ts'
import type { CaseCost } from './costs.ts'
import { vectorProgram } from './run.ts'
import { type Vector, vectorId } from './vector.ts'

/** What the choice knows of one case. */
export interface Candidate {
  /** `<op>/<case>` */
  readonly id: string
  /** The op with the storage formats of its operands: one case of each is always chosen. */
  readonly formats: string
  /** Kernel variants it selects. */
  readonly variants: readonly string[]
  /** Names its kernel texts. */
  readonly texts: string
  readonly cost: CaseCost
}

/** Milliseconds of several cases in one process. */
export interface Estimate {
  /** Where the driver has never seen a kernel of them. */
  readonly cold: number
  /** Where it kept all kernels from an earlier process. */
  readonly kept: number
}

export interface Choice {
  readonly ids: ReadonlySet<string>
  readonly estimate: Estimate
  /** The least that has every op with every storage format. Only above the budget is the choice this one. */
  readonly minimum: Estimate
}

/**
 * Chooses cases for a budget of cold milliseconds: the longest beginning of one fixed order, so that a larger budget
 * only adds cases. First come cases with formats or, among them, kernel variants that no earlier case has, then the
 * other new variants, then the rest; the cheapest first, where kernels that an earlier case has are taken from the
 * driver's cache. That beginning is never shorter than what has every op with every storage format.
 */
export function chooseCases(candidates: readonly Candidate[], budget: number): Choice {
  const order = ranked(candidates)
  const last = order.findLastIndex(({ isMinimum }) => isMinimum)
  const minimum = order[last]?.total ?? { cold: 0, kept: 0 }
  const within = order.findLastIndex(({ total }) => total.cold <= budget)
  const end = Math.max(within, last)
  return {
    ids: new Set(order.slice(0, end + 1).map(({ id }) => id)),
    estimate: order[end]?.total ?? minimum,
    minimum,
  }
}

interface Ranked {
  readonly id: string
  /** Brings formats that no earlier case has. */
  readonly isMinimum: boolean
  /** Of this case and all before it. */
  readonly total: Estimate
}

function ranked(candidates: readonly Candidate[]): Ranked[] {
  const left = new Map(candidates.map((c) => [c.id, c]))
  const seen = { formats: new Set<string>(), variants: new Set<string>(), texts: new Set<string>() }
  /** Of a text that an earlier case had, little is kept when that one's program is gone: the driver's cache. */
  const cold = ({ texts, cost }: Candidate): number =>
    cost.run + (seen.texts.has(texts) ? cost.kept : cost.compile)
  /** Smaller is better, the first number that differs decides. */
  const rank = (c: Candidate): readonly number[] => [
    seen.formats.has(c.formats) ? 1 : 0,
    c.variants.every((v) => seen.variants.has(v)) ? 1 : 0,
    cold(c),
  ]
  const out: Ranked[] = []
  let total: Estimate = { cold: 0, kept: 0 }
  while (left.size > 0) {
    let [best, bestRank]: [Candidate | undefined, readonly number[]] = [undefined, []]
    for (const c of left.values()) {
      const mine = rank(c)
      if (!best || isBefore(mine, bestRank)) [best, bestRank] = [c, mine]
    }
    const next = best!
    total = { cold: total.cold + cold(next), kept: total.kept + next.cost.run + next.cost.kept }
    out.push({ id: next.id, isMinimum: !seen.formats.has(next.formats), total })
    left.delete(next.id)
    seen.formats.add(next.formats)
    for (const variant of next.variants) seen.variants.add(variant)
    seen.texts.add(next.texts)
  }
  return out
}

function isBefore(a: readonly number[], b: readonly number[]): boolean {
  const at = a.findIndex((x, i) => x !== b[i])
  return at >= 0 && a[at]! < b[at]!
}

/** What the choice must know of a vector on a device; undefined where it has no program there, and costs nothing. */
export function candidateOf(
  vector: Vector,
  device: Device,
  costOf: (op: string, id: string) => CaseCost,
): Candidate | undefined {
  try {
    const { kernels } = vectorProgram(vector, device.target)
    const operands = [...Object.entries(vector.inputs), ...Object.entries(vector.outputs)]
    return {
      id: vectorId(vector),
      formats: [vector.op, ...operands.map(([port, { type }]) => `${port}:${type.format}`).sort()].join(' '),
      variants: kernels.map((k) => `${vector.op} ${k.name}`),
      texts: kernels.map((k) => k.textHash).join(' '),
      cost: costOf(vector.op, vectorId(vector)),
    }
  } catch (error) {
    if (error instanceof ExactmapError) return undefined
    throw error
  }
}
