import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EmulatedImages } from '../../backends/cuda/build/emulated.ts'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { encodeProgramFile } from '../../backends/cuda/program_file.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { tensorType } from '../../src/tensor/type.ts'
import { buildNccl, buildWithRuntime } from './sanitized.ts'
import { whyNoDriver } from './tiny_device.ts'

// Ranks in processes of their own and as threads of one, without Node, under AddressSanitizer and
// UndefinedBehaviorSanitizer: ranks.c on the emulated NCCL.

const reason = await whyNoDriver()
const folder = mkdtempSync(join(tmpdir(), 'exactmap-ranks-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const WORDS = 1000
const type = tensorType('f32', WORDS)
const target = cudaTarget(Object.values(cudaTraits)[0]!, readCudaSources())

type Way = 'one' | 'other' | 'behind'

/**
 * y of a rank is twice the x of the rank before it. `one` exchange, or a send and a receive on channels that lie the
 * other way round on every `other` rank. `behind`: y leaves behind the segment, and a second one takes the y of the rank
 * before.
 */
function ring(rank: number, size: number, how: Way): Graph {
  const g = new Graph('ring')
  const given = g.input('x', type)
  const x = g.op('add', {}, { a: given, b: given }).y!
  const whole = (peer: number, port: string) => [{ peer, port, offset: 0, bytes: 4 * WORDS }]
  const [sends, receives] = [whole((rank + 1) % size, 'x'), whole((rank + size - 1) % size, 'y')]
  const group = { group: 'all', size }
  if (how !== 'other') {
    const attrs = { ...group, channel: 0, sends, receives, outputs: { y: type } }
    const y = g.op('exchange', attrs, { x }).y!
    g.output('y', y)
    if (how === 'one') return g
    g.op('exchange', { ...group, channel: 1 + (rank % 2), sends, receives: [], outputs: {} }, { x: y })
    g.segment('second', () => {
      const channel = 2 - (rank % 2)
      const taken = { ...group, channel, sends: [], receives, outputs: { y: type } }
      const before = g.op('exchange', taken, {}).y!
      g.output('w', g.op('add', {}, { a: before, b: before }).y!)
    })
  } else {
    g.op('exchange', { ...group, channel: rank % 2, sends, receives: [], outputs: {} }, { x })
    const attrs = { ...group, channel: (rank + 1) % 2, sends: [], receives, outputs: { y: type } }
    g.output('y', g.op('exchange', attrs, {}).y!)
  }
  return g
}

describe.skipIf(reason)(`ranks under sanitizers${reason && ` (skipped: ${reason})`}`, () => {
  const binary = join(folder, 'ranks')
  let nccl = ''

  beforeAll(async () => {
    if (reason) return
    ;[nccl] = await Promise.all([buildNccl(folder), buildWithRuntime('ranks.c', binary)])
    const image = await new EmulatedImages().image('elementwise', target.moduleText('elementwise'))
    writeFileSync(join(folder, 'elementwise.so'), image)
  }, 120_000)

  /** Lines that the ranks print, and how many seconds they took. */
  async function run(
    how: 'processes' | 'threads',
    size: number,
    way: Way,
    {
      rounds = 100,
      victim = -1,
      env = {},
    }: { rounds?: number; victim?: number; env?: Record<string, string> } = {},
  ): Promise<{ lines: string[]; seconds: number }> {
    const files = Array.from({ length: size }, (_, rank) => {
      const file = join(folder, `${size}.${way}.${rank}`)
      writeFileSync(file, encodeProgramFile(compile(ring(rank, size, way), target), target))
      return file
    })
    const args = [how, emulatedDriver(), nccl, folder, `${rounds}`, `${victim}`, ...files]
    const start = performance.now()
    const { stdout, stderr } = await promisify(execFile)(binary, args, {
      env: { PATH: process.env.PATH, EXACTMAP_EMULATED_DEVICES: '4', ...env },
    })
    expect(stderr).toBe('')
    return { lines: stdout.trim().split('\n'), seconds: (performance.now() - start) / 1000 }
  }

  it.each<['processes' | 'threads', number]>([
    ['threads', 2],
    ['threads', 4],
    ['processes', 2],
    ['processes', 4],
  ])('%s, %i ranks, 100 rounds, each way', async (how, size) => {
    const all = Array.from({ length: size }, () => 'ok')
    expect((await run(how, size, 'one')).lines).toEqual(all)
    expect((await run(how, size, 'behind')).lines).toEqual(all)
    const env = { EXACTMAP_EMULATED_GRAPH_ORDER: 'shuffle:3' }
    expect((await run(how, size, 'other', { env })).lines).toEqual(all)
  })

  it.each([
    'cuStreamBeginCaptureToGraph:1',
    'cuStreamGetCaptureInfo:1',
    'cuStreamGetCaptureInfo:2',
    'cuStreamEndCapture:1',
    'cuLaunchHostFunc:1',
    'cuStreamCreate:2',
    'cuCtxGetDevice:1',
    'cuGraphInstantiateWithFlags:2',
    'cuMemAlloc:5',
    'cuStreamWaitEvent:4',
  ])('turns a failure of %s into errors of all ranks', async (call) => {
    // In one process, so that the call fails for one rank only.
    const env = { EXACTMAP_EMULATED_FAIL: `${call}:1`, EXACTMAP_EMULATED_NCCL_TIMEOUT: '1' }
    const { lines, seconds } = await run('threads', 2, 'behind', { env })
    expect(seconds).toBeLessThan(5)
    expect(lines.length).toBe(2)
    for (const line of lines) expect(line).toMatch(/^(validation|device_lost|io): /)
  })

  it('all are told within 5 seconds when a process is killed', async () => {
    const { lines, seconds } = await run('processes', 4, 'behind', { victim: 2 })
    expect(seconds).toBeLessThan(5)
    expect(lines.length).toBe(3)
    for (const line of lines)
      expect(line).toMatch(
        /^device_lost: group 'all' channel \d, member [013] of 4: .*member \d \(process \d+\) is gone/,
      )
    expect(lines.join('\n')).toContain('member 2 (process')
  })
})
