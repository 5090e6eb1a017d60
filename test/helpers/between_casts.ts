import type { Target } from '../../backends/backend.ts'
import type { OpContract } from '../../src/ops/contract.ts'
import { checkCall } from '../../src/ops/index.ts'
import type { FormatName } from '../../src/tensor/format.ts'

/** Ops whose subject is what casts do. */
const conversions = new Set(['cast', 'store', 'quantize', 'copy'])

/** What kernels read and write without casts. */
const plain = new Set<FormatName>(['f32', 'u32', 'i32'])

/**
 * Cases of an op that a target does with the kernels of f32 between casts, but for the first of
 * every set of other formats: they compile what other cases do once more, with other sizes.
 */
export function repeatedBetweenCasts(contract: OpContract, target: Target): Set<string> {
  const seen = new Set<string>()
  const repeated = new Set<string>()
  if (conversions.has(contract.name)) return repeated
  for (const { name, attrs, inputs } of contract.cases) {
    const call = checkCall(contract, attrs, inputs)
    const choice = target.choose(call)
    const launches = 'launches' in choice ? choice.launches : []
    if (!launches.some(({ variant }) => variant.startsWith('cast_'))) continue
    const types = [...Object.values(call.inputs), ...Object.values(call.outputs)]
    const cast = [...new Set(types.map(({ format }) => format))]
      .filter((f) => !plain.has(f))
      .sort()
      .join()
    if (seen.has(cast)) repeated.add(name)
    seen.add(cast)
  }
  return repeated
}
