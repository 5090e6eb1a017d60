import { byteSize, type TensorType } from '../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from './backend.ts'

/** Where a port of a step lies in the whole: in one of its ports or scratch tensors, or in a range of it. */
export type Place = string | { readonly port: string; readonly offset: number; readonly bytes: number }

/** Kernels of one call within another's, with the places of those ports that lie elsewhere than under their own name. */
export interface Step {
  readonly choice: KernelChoice
  readonly places: Readonly<Record<string, Place>>
}

type Binding = LaunchPlan['bindings'][number]

function placed(binding: Binding, place: Place | undefined): Binding {
  if (place === undefined) return binding
  const as = binding.as ?? binding.port
  if (typeof place === 'string') return { ...binding, port: place, as }
  const offset = binding.offset ?? 0
  return {
    ...binding,
    port: place.port,
    as,
    offset: place.offset + offset,
    bytes: binding.bytes ?? place.bytes - offset,
  }
}

/**
 * One choice made of several, in order. Steps share what they name alike as scratch, in the size of the largest; a step
 * that can't be done makes all of it unsupported.
 */
export function inOrder(steps: readonly Step[], scratch: Readonly<Record<string, TensorType>>): KernelChoice {
  const launches: LaunchPlan[] = []
  const all: Record<string, TensorType> = { ...scratch }
  for (const { choice, places } of steps) {
    if ('unsupported' in choice) return choice
    for (const [name, type] of Object.entries(choice.scratch ?? {}))
      if (!all[name] || byteSize(all[name]) < byteSize(type)) all[name] = type
    for (const launch of choice.launches)
      launches.push({ ...launch, bindings: launch.bindings.map((b) => placed(b, places[b.port])) })
  }
  return { launches, scratch: all }
}
