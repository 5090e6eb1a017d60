import { describe, expect, it } from 'vitest'
import { packageRoot } from '../../../backends/package_root.ts'
import { missing, printMissing, runPrimitive } from './emulated.ts'
import { fragmentPrimitives } from './fragment_primitives.ts'
import { targetOfPrimitives } from './primitives.ts'

printMissing()

describe.skipIf(missing)('single instructions on the emulated device', () => {
  const target = targetOfPrimitives(packageRoot(), 'sm_90a', fragmentPrimitives)
  it.each(fragmentPrimitives.map((one) => [one.name, one] as const))(
    '%s gives what the PTX ISA says',
    async (_, one) => {
      expect(await runPrimitive(one, target, 'shuffle:1')).toEqual(one.expected)
    },
    120_000,
  )
})
