// Writes the entries of backends/cuda/tuning anew that no hardware has measured, from what the rules predict.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cudaTraits } from '../../backends/cuda/target.ts'
import { cudaTuningFiles, encodeCudaTuning } from '../../backends/cuda/tuning.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { speedCases } from './speed_cases.ts'
import { completedEntries, predictedEntries } from './tuning.ts'

for (const [name, file] of Object.entries(cudaTuningFiles)) {
  const traits = Object.values(cudaTraits).find(({ arch }) => arch === file.arch)!
  const entries = completedEntries(file.entries, predictedEntries(traits, speedCases))
  const text = encodeCudaTuning({ ...file, entries })
  writeFileSync(join(packageRoot(), 'backends', 'cuda', 'tuning', `${name}.json`), text)
  const measured = entries.filter(({ times }) => times).length
  console.log(`${name}: ${entries.length - measured} entries predicted, ${measured} measured`)
}
