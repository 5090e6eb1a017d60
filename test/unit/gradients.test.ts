import { allOps } from '../../src/ops/index.ts'
import { gradientSuite } from '../helpers/suites.ts'

// Gradient rules against central differences of the float64 references.
for (const contract of allOps()) {
  if ('none' in contract.gradient && typeof contract.gradient.none === 'string') continue
  gradientSuite(contract)
}
