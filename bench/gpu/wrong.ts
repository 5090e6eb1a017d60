// npm run gpu -- wrong <folder> [case]: the failed cases of a journal and, where a wrong output came whole, a map of it.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../../backends/package_root.ts'
import { check } from '../../src/errors.ts'
import { readVectors } from '../../src/verify/suite.ts'
import { vectorId } from '../../src/verify/vector.ts'
import { type CaseRecord, readJournal } from './journal.ts'
import { wrongElements, wrongText } from './wrong_map.ts'

interface FailedRecord extends CaseRecord {
  readonly output?: string
  /** That output whole, in base64. */
  readonly gotBytes?: string
}

const [folder, wanted = ''] = process.argv.slice(2)
check(folder, 'invalid_argument', 'wrong needs the folder that bench/gpu/run.py wrote')
const journal = readJournal(readFileSync(join(folder, 'journal.jsonl'), 'utf8'))
const failed = journal.of<FailedRecord>('verify').filter((r) => !r.pass && r.case.startsWith(wanted))
const stored = await readVectors(join(packageRoot(), 'test', 'vectors'), [])
for (const record of failed) {
  console.log(`\n${record.case}: ${record.error ?? `${record.output} is wrong`}`)
  const vector = stored.find((v) => vectorId(v) === record.case.split('@')[0])
  if (vector && record.output && record.gotBytes)
    console.log(wrongText(wrongElements(vector, record.output, Buffer.from(record.gotBytes, 'base64'))))
}
console.log(`\n${failed.length} cases failed on ${journal.device}`)
