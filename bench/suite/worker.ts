/** The process of one engine: `node dist/bench/worker.js <contender> <driver>`, questions on stdin, answers on stdout. */
import { createInterface } from 'node:readline'
import { contenders } from '../contenders/index.ts'
import type { Answer, Prepared, Question } from './contender.ts'
import type { DriverName } from './drivers.ts'

// Engines print to stdout; the answers go where it was, and what they print to stderr.
const write = process.stdout.write.bind(process.stdout)
process.stdout.write = process.stderr.write.bind(process.stderr) as typeof process.stdout.write
console.log = console.info = console.warn = console.error
const answer = (value: Answer): boolean => write(`${JSON.stringify(value)}\n`)

const [name, driver] = process.argv.slice(2) as [keyof typeof contenders, DriverName]

async function main(): Promise<void> {
  const contender = await contenders[name](driver)
  if (typeof contender === 'string') {
    answer({ missing: contender })
    return
  }
  const { version, kind, device } = contender
  answer({ hello: { name: contender.name, version, kind, device } })
  let current: Prepared | undefined
  const ready = (): Prepared => {
    if (!current) throw new Error('nothing is prepared')
    return current
  }
  for await (const line of createInterface({ input: process.stdin })) {
    const question = JSON.parse(line) as Question
    try {
      if (question.ask === 'prepare') {
        const prepared = await contender.prepare(question.work)
        if ('unsupported' in prepared) answer(prepared)
        else {
          current = prepared
          answer({ ready: prepared.notes === undefined ? {} : { notes: prepared.notes } })
        }
      } else if (question.ask === 'run') answer({ ms: await ready().run(question.times) })
      else if (question.ask === 'sample') answer({ values: await ready().sample(question.indices) })
      else {
        const facts = ready().facts
        await ready().release()
        current = undefined
        answer({ released: facts ? { facts } : {} })
      }
    } catch (error) {
      answer({ error: String((error as Error).stack ?? error) })
    }
  }
}

main()
  .catch((error) => answer({ error: String((error as Error).stack ?? error) }))
  .finally(() => process.exit(0))
