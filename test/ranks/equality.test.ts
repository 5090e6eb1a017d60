import { afterAll, describe, expect, it } from 'vitest'
import { quickWebGpu } from '../helpers/webgpu.ts'
import { config, type GridAxes, gridOf, trainGrid } from './grid.ts'

const device = await quickWebGpu()
afterAll(() => device.destroy())

const MICROBATCHES = 8
const one = trainGrid(device, 'llama', config(MICROBATCHES), undefined)

const same: GridAxes[] = [
  { pipeline: 2, schedule: 'gpipe' },
  { pipeline: 2 },
  { pipeline: 4 },
  { pipeline: 2, schedule: 'interleaved', chunks: 2 },
  { pipeline: 4, schedule: 'zb_h1' },
  { pipeline: 2, schedule: 'zb_v' },
  { pipeline: 2, schedule: 'dualpipe_v' },
]

describe('pipelines give the bytes of one rank', () => {
  it.each(same)('%o', async (axes) => {
    const { reports, parameters } = await trainGrid(
      device,
      'llama',
      config(MICROBATCHES),
      gridOf(axes, MICROBATCHES),
    )
    const expected = await one
    for (const list of reports) expect(list).toEqual(expected.reports[0])
    for (const [name, values] of expected.parameters) expect(parameters.get(name), name).toEqual(values)
  })
})
