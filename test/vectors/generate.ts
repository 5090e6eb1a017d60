// Writes the stored vectors of all ops and collectives, or of the ops named: `npm run vectors -- rms_norm collectives`.
import { join } from 'node:path'
import { packageRoot } from '../../backends/package_root.ts'
import { allOps, opContract } from '../../src/ops/index.ts'
import { writeVectors } from '../../src/verify/store.ts'
import { writeCollectives } from '../helpers/collectives.ts'

const named = process.argv.slice(2)
const root = join(packageRoot(), 'test', 'vectors')
let total = 0
const report = (name: string, cases: number, bytes: number): void => {
  total += bytes
  console.log(`${name.padEnd(28)} ${String(cases).padStart(3)} cases ${String(bytes).padStart(8)} bytes`)
}
const ops = named.filter((name) => name !== 'collectives')
for (const contract of named.length > 0 ? ops.map(opContract) : allOps())
  report(contract.name, contract.cases.length, writeVectors(root, contract))
if (named.length === 0 || named.includes('collectives')) {
  const { count, bytes } = writeCollectives(root)
  report('collectives', count, bytes)
}
console.log(`${total} bytes in all`)
