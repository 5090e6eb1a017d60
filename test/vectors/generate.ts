// Writes the stored vectors of all ops, or of those named: `npm run vectors -- rms_norm matmul`.
import { join } from 'node:path'
import { packageRoot } from '../../backends/package_root.ts'
import { allOps, opContract } from '../../src/ops/index.ts'
import { writeVectors } from '../../src/verify/store.ts'

const named = process.argv.slice(2)
const root = join(packageRoot(), 'test', 'vectors')
let total = 0
for (const contract of named.length > 0 ? named.map(opContract) : allOps()) {
  const bytes = writeVectors(root, contract)
  total += bytes
  console.log(
    `${contract.name.padEnd(28)} ${String(contract.cases.length).padStart(3)} cases ${String(bytes).padStart(8)} bytes`,
  )
}
console.log(`${total} bytes in all`)
