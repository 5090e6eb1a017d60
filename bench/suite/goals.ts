import type { Hello } from './contender.ts'
import type { DriverName } from './drivers.ts'
import { type Measured, ratioOf } from './measure.ts'
import { nameOf, suites, type Work } from './works.ts'

/** Figures of one work by engine. */
export type Row = Readonly<Record<string, Measured>>
export type Rows = ReadonlyMap<string, Row>

export const OURS = 'exactmap'

/** What a figure of ours is held to. */
export type Goal =
  /** Times faster than the fastest WebGPU engine on the same driver that does the work. */
  | { readonly kind: 'webgpu'; readonly atLeast: number }
  /** Times faster than one of these engines, the fastest of them. */
  | { readonly kind: 'engines'; readonly names: readonly string[]; readonly atLeast: number }
  /** Times faster than ours at another work. */
  | { readonly kind: 'work'; readonly name: string; readonly atLeast: number }
  /** A figure our engine measures of itself. */
  | { readonly kind: 'fact'; readonly name: string; readonly atMost: number }
  /** Milliseconds, in the middle round. */
  | { readonly kind: 'time'; readonly atMost: number }

/** What two cores should reach, by work and driver. */
export function goalsOf(work: Work, driver: DriverName): Goal[] {
  const slow = driver === 'swiftshader'
  switch (work.kind) {
    case 'matmul': {
      if (work.rows > 1) return [{ kind: 'webgpu', atLeast: slow ? 2.5 : 3 }]
      const other = (weights: 'f32' | 'q8_0'): string => nameOf({ ...work, weights })
      if (work.weights === 'f32') return [{ kind: 'webgpu', atLeast: 1.5 }]
      // On SwiftShader arithmetic decides, not bytes: packed weights have no goal there.
      if (work.weights === 'f16' || slow) return []
      return [
        work.weights === 'q8_0'
          ? { kind: 'work', name: other('f32'), atLeast: 1.6 }
          : { kind: 'work', name: other('q8_0'), atLeast: 1 },
      ]
    }
    case 'rms_norm':
    case 'softmax':
    case 'attention_decode':
      return [{ kind: 'webgpu', atLeast: 1.5 }]
    case 'decode':
      return [
        { kind: 'webgpu', atLeast: 2 },
        { kind: 'fact', name: 'step_over_kernels', atMost: 1.3 },
      ]
    case 'train_step':
      return [
        { kind: 'engines', names: ['tfjs', 'jax-js'], atLeast: 3 },
        { kind: 'fact', name: 'step_over_forward', atMost: 3.3 },
      ]
    case 'startup':
      return [{ kind: 'time', atMost: work.caches === 'empty' ? 2500 : 1000 }]
  }
}

export interface Verdict {
  readonly goal: Goal
  /** What it was compared with. */
  readonly against: string
  /** Undefined where there was nothing to compare with. */
  readonly value: number | undefined
  readonly reached: boolean | undefined
}

/** Ratio of ours to the fastest of some engines in a row; undefined when none of them has a figure. */
export function ratioToFastest(
  row: Row,
  names: readonly string[],
): { against: string; value: number } | undefined {
  const ours = row[OURS]
  const ratios = names.flatMap((name) => {
    const value = ours && row[name] && ratioOf(ours, row[name])
    return value === undefined ? [] : [{ against: name, value }]
  })
  return ratios.length === 0 ? undefined : ratios.reduce((a, b) => (b.value < a.value ? b : a))
}

export const webgpuPeers = (hellos: readonly Hello[]): string[] =>
  hellos.filter((h) => h.kind === 'webgpu' && h.name !== OURS).map((h) => h.name)

export function judge(work: Work, driver: DriverName, rows: Rows, hellos: readonly Hello[]): Verdict[] {
  const row = rows.get(nameOf(work)) ?? {}
  const ours = row[OURS]
  return goalsOf(work, driver).map((goal): Verdict => {
    const none = (against: string): Verdict => ({ goal, against, value: undefined, reached: undefined })
    switch (goal.kind) {
      case 'fact': {
        const value = ours && 'best' in ours ? ours.facts?.[goal.name] : undefined
        if (value === undefined) return none('itself')
        return { goal, against: 'itself', value, reached: value <= goal.atMost }
      }
      case 'time':
        if (!ours || 'missing' in ours) return none('itself')
        return { goal, against: 'itself', value: ours.median, reached: ours.median <= goal.atMost }
      case 'work': {
        const other = rows.get(goal.name)?.[OURS]
        const value = ours && other && ratioOf(ours, other)
        if (value === undefined) return none(goal.name)
        return { goal, against: goal.name, value, reached: value >= goal.atLeast }
      }
      default: {
        const names = goal.kind === 'webgpu' ? webgpuPeers(hellos) : goal.names
        const found = ratioToFastest(row, names)
        if (!found) return none(goal.kind === 'webgpu' ? 'no WebGPU engine' : goal.names.join(', '))
        return { goal, ...found, reached: found.value >= goal.atLeast }
      }
    }
  })
}

/** All works of all suites, for looking one up by its name. */
export const workNamed = (name: string): Work | undefined =>
  (Object.values(suites).flat() as Work[]).find((work) => nameOf(work) === name)
