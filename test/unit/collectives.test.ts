import { expect, it } from 'vitest'
import { localTransports } from '../../backends/local_transport.ts'
import { ReferenceDevice } from '../../backends/reference/device.ts'
import { loadForRank } from '../../backends/staged_exchange.ts'
import { lowerCollectives } from '../../src/parallel/collectives/lower.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { tensorType } from '../../src/tensor/type.ts'

it('all_reduce sums over ranks', async () => {
  const size = 3
  const graph = new Graph('sum')
  const x = graph.input('x', tensorType('f32', 6))
  graph.output(
    'y',
    graph.op('all_reduce', { group: 'g', size }, { x: graph.op('add', {}, { a: x, b: x }).y! }).y!,
  )
  const outputs = await Promise.all(
    localTransports(size).map(async (transport) => {
      const device = new ReferenceDevice()
      const program = compile(lowerCollectives(graph, { g: transport.rank }), device.target)
      const rank = await loadForRank(device, program, {
        communicator: { transport, groups: { g: [0, 1, 2] } },
      })
      return rank.step('main', { x: Float32Array.from({ length: 6 }, (_, i) => i + transport.rank) })
    }),
  )
  for (const { y } of outputs)
    expect([...new Float32Array(y!.buffer)]).toEqual([0, 1, 2, 3, 4, 5].map((i) => 2 * (3 * i + 3)))
})
