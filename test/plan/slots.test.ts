import { expect, it } from 'vitest'
import type { Device } from '../../backends/backend.ts'
import { ReferenceDevice } from '../../backends/reference/device.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import type { ScheduleEntry } from '../../src/program/program.ts'
import { tensorType } from '../../src/tensor/type.ts'

// A value of one segment is read by another: with three microbatches in flight each must find its own.
function twoSegments(): Graph {
  const graph = new Graph('slots')
  const x = graph.input('x', tensorType('f32', 100))
  const kept = graph.segment('first', () => graph.op('add', {}, { a: x, b: x }).y!)
  graph.segment('second', () => graph.output('y', graph.op('mul', {}, { a: kept, b: kept }).y!))
  return graph
}

const schedule: ScheduleEntry[] = [
  { segment: 'first', slot: 0 },
  { segment: 'first', slot: 1 },
  { segment: 'first', slot: 2 },
  { segment: 'second', slot: 1 },
  { segment: 'second', slot: 0 },
  { segment: 'second', slot: 2 },
]

async function squares(device: Device): Promise<number[]> {
  const executable = await device.load(compile(twoSegments(), device.target, { slots: 3 }))
  const found: number[] = []
  for (const { segment, slot } of schedule) {
    if (segment === 'first') executable.run(segment, { x: new Float32Array(100).fill(slot + 1) }, slot)
    else found.push(new Float32Array((await executable.step(segment, {}, slot)).y!.buffer)[99]!)
  }
  expect(() => executable.run('first', {}, 3)).toThrow(/slot 3/)
  executable.destroy()
  return found
}

it('keeps microbatches apart on the reference', async () => {
  expect(await squares(new ReferenceDevice())).toEqual([16, 4, 36])
})

it('keeps microbatches apart on WebGPU', async () => {
  const device = await openNodeWebGpu()
  expect(await squares(device)).toEqual([16, 4, 36])
  device.destroy()
})
