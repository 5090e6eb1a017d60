import { expect, it } from 'vitest'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { tensorType } from '../../src/tensor/type.ts'

it('refuses a program that is too large for the device, with the table, before anything is allocated', async () => {
  const device = await openNodeWebGpu({ memory: 10_000 })
  const graph = new Graph('big')
  const x = graph.input('x', tensorType('f32', 2000))
  graph.output('y', graph.op('silu', {}, { x }).y!)
  const program = compile(graph, device.target)
  await expect(device.load(program)).rejects.toMatchObject({
    code: 'out_of_memory',
    place: { program: 'big' },
  })
  await expect(device.load(program)).rejects.toThrow(
    /needs 16384 bytes, the device has 10000:\n {2}step_input +8192 bytes\n {2}activations +8192 bytes/,
  )
  expect(device.created.buffers).toBe(0)
  device.destroy()
})
