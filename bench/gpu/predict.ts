// Writes backends/cuda/tuning anew from what the rules predict, where no hardware has measured it.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cudaTraits } from '../../backends/cuda/target.ts'
import { cudaTuningFiles, encodeCudaTuning } from '../../backends/cuda/tuning.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { speedCases } from './speed_cases.ts'
import { predictedEntries } from './tuning.ts'

for (const [name, file] of Object.entries(cudaTuningFiles)) {
  if (file.measured) {
    console.log(
      `${name}: measured on ${file.measured.device}, left as it is; delete its entries to predict them`,
    )
    continue
  }
  const traits = Object.values(cudaTraits).find(({ arch }) => arch === file.arch)!
  const entries = predictedEntries(traits, speedCases)
  writeFileSync(
    join(packageRoot(), 'backends', 'cuda', 'tuning', `${name}.json`),
    encodeCudaTuning({ ...file, entries }),
  )
  console.log(`${name}: ${entries.length} entries predicted, none measured`)
}
