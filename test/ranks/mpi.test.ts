import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { beforeAll, describe, expect, it } from 'vitest'
import { checks } from './contract.ts'
import { bundled, mpirun, type Run, whyNoRanks } from './mpirun.ts'

const reason = await whyNoRanks()

/** What ranks and not the launcher printed to stderr. */
const told = ({ err }: Run): string[] => err.split('\n').filter((line) => line.startsWith('exactmap: '))

/** Whether a process still runs; one that only waits to be noted by its parent does not. */
function runs(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

describe.skipIf(reason)(`ranks of mpirun${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let script = ''
  beforeAll(async () => {
    if (!reason) script = await bundled('rank')
  })
  const run = (ranks: number, ...args: string[]): Promise<Run> => mpirun(ranks, script, args)

  it.each([
    ['two ranks', 2, [], []],
    ['more ranks than cores', 4, [], []],
    ['messages in pieces', 3, ['pieces'], []],
    ['TCP', 2, [], ['--mca', 'btl', 'tcp,self']],
  ])('the contract of transports: %s', async (_, ranks, args, options) => {
    const result = await mpirun(ranks, script, ['contract', ...args], options)
    expect(result.err).toBe('')
    const all = Array.from({ length: ranks }, (_, r) => Object.keys(checks).map((name) => `${r}: ${name}`))
    expect(result.out.trim().split('\n').sort()).toEqual(all.flat().sort())
    expect(result.code).toBe(0)
  })

  it('one rank needs no MPI', async () => {
    expect((await run(1, 'start')).out).toMatch(/^up \d+ local\n$/)
  })

  it('a rank with another plan is refused by name, once', async () => {
    const result = await run(4, 'agree', '3')
    expect(told(result)).toEqual([
      `exactmap: rank 0: conflict: rank 3 (host ${hostname()}) has plan 1a2b, rank 0 has 3c4d: start all ranks with the same plan file`,
    ])
    expect(result.code).not.toBe(0)
  })

  // However a rank ends, the others are gone within 5 seconds and don't add to what was said.
  it.each([
    ['throw', ['exactmap: rank 2: device_lost: the device of this rank is gone']],
    ['kill', []],
    ['exit', []],
    ['leave', []],
  ])('%s: all ranks stop', async (how, words) => {
    const result = await run(4, how, '2')
    const end = Number(/^end (\d+)$/m.exec(result.out)![1])
    const pids = [...result.out.matchAll(/^pid (\d+)$/gm)].map(([, pid]) => Number(pid))
    expect(pids).toHaveLength(4)
    while (pids.some(runs)) await new Promise((resolve) => setTimeout(resolve, 20))
    const after = Date.now() - end
    expect(after).toBeLessThan(5000)
    expect(told(result)).toEqual(words)
    expect(result.code).not.toBe(0)
    console.log(`${how}: all ranks were gone after ${after} ms`)
  })
})
