import { describe, expect, it } from 'vitest'
import { NullDevice, type Pace, segmentSeconds } from '../../backends/null/device.ts'
import { referenceTarget } from '../../backends/reference/device.ts'
import { ExactmapError } from '../../src/errors.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import type { Launch, Step } from '../../src/program/program.ts'
import { tensorType } from '../../src/tensor/type.ts'

const pace: Pace = { bytesPerSecond: 1e6, flopsPerSecond: 1e9, launchSeconds: 0.002 }

function chain(): Graph {
  const graph = new Graph('chain')
  const x = graph.input('x', tensorType('f32', 1000))
  let y = graph.op('silu', {}, { x }).y!
  for (let i = 0; i < 3; i++) y = graph.op('silu', {}, { x: y }).y!
  graph.output('y', y)
  return graph
}

const step = (index: number, queue: string, after: number[]): Step =>
  ({ kind: 'launch', index, name: `${index}`, queue, after, bindings: [], flops: 5e6 }) as unknown as Launch

describe('null backend', () => {
  it('loads and steps any program, gives outputs of the right size, and computes nothing', async () => {
    const device = new NullDevice(referenceTarget)
    const executable = await device.load(compile(chain(), device.target))
    const { y } = await executable.step('main', { x: new Float32Array(1000).fill(1) })
    expect(y!.length).toBe(4000)
    expect(y!.every((byte) => byte === 0)).toBe(true)
    expect(() => executable.run('other')).toThrow(ExactmapError)
    expect(() => executable.run('main', { x: new Float32Array(3) })).toThrow("no input 'x' of 12 bytes")
  })

  it('takes the modelled time of every launch when paced', async () => {
    const device = new NullDevice(referenceTarget, pace)
    const program = compile(chain(), device.target)
    // Four launches that read and write 4,000 bytes each: 8 ms a launch at 1 MB/s.
    const modelled = segmentSeconds(program.segments[0]!.steps, pace)
    expect(modelled).toBeCloseTo(0.032, 6)
    const executable = await device.load(program)
    const start = performance.now()
    for (let i = 0; i < 5; i++) executable.run('main')
    expect(performance.now() - start).toBeLessThan(100)
    await executable.finished()
    const seconds = (performance.now() - start) / 1000
    expect(seconds).toBeGreaterThanOrEqual(5 * modelled)
    expect(seconds).toBeLessThan(5 * modelled + 1)
  })

  it('gives outputs when their step ends, not when later ones do', async () => {
    const program = compile(chain(), referenceTarget)
    const modelled = 1000 * segmentSeconds(program.segments[0]!.steps, pace)
    const executable = await new NullDevice(referenceTarget, pace).load(program)
    const now = () => performance.now()
    const first = executable.step('main', { x: new Float32Array(1000) }).then(now)
    for (let i = 0; i < 4; i++) executable.run('main')
    const all = executable.finished().then(now)
    expect((await all) - (await first)).toBeGreaterThan(modelled)
  })

  it('lets queues overlap and dependencies wait', () => {
    // 5 ms each: two on one queue follow each other, on two queues they run together, a dependency joins them.
    expect(segmentSeconds([step(0, 'a', []), step(1, 'a', [])], pace)).toBeCloseTo(0.01)
    expect(segmentSeconds([step(0, 'a', []), step(1, 'b', [])], pace)).toBeCloseTo(0.005)
    expect(segmentSeconds([step(0, 'a', []), step(1, 'b', [0]), step(2, 'a', [])], pace)).toBeCloseTo(0.01)
  })
})
