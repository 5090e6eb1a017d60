import { check } from '../errors.ts'
import { weightFormatsOf } from '../ops/matmul.ts'
import { applyRecipe } from '../program/apply_recipe.ts'
import { joinEpilogues } from '../program/fusion.ts'
import type { Graph } from '../program/graph.ts'
import { linearIn } from '../program/recipe.ts'
import type { FormatName } from '../tensor/format.ts'

/** Formats of what goes between products. */
export const activationFormats = ['f32', 'f16', 'bf16'] as const

export type ActivationFormat = (typeof activationFormats)[number]

/** @throws ExactmapError `invalid_argument` for weights that products of such activations do not take */
export function checkActivations(activations: ActivationFormat, weights: FormatName): void {
  const taken = weightFormatsOf(activations)
  check(
    taken.includes(weights),
    'invalid_argument',
    () =>
      `activations in ${activations} need weights in ${taken.join(', ')}; got ${weights}: take one of these, or activations in f32`,
  )
}

/**
 * An inference graph whose products, attention, rotations and gates read this format. As in the recipes of training, the
 * residual stream, the insides of norms and softmax, logits and every sum are f32; the cache has a format of its own.
 */
export function withActivations(graph: Graph, activations: ActivationFormat): Graph {
  if (activations === 'f32') return graph
  const linear = linearIn(activations)
  const recipe = {
    name: activations,
    summary: `activations in ${activations}`,
    layers: linear,
    head: linear,
    activations,
  }
  // Before anything is rounded: a sum goes to the activation behind it in f32, and is rounded once.
  return applyRecipe(joinEpilogues(graph), recipe)
}
