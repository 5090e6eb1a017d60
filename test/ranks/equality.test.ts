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

describe('data ranks give the bytes of one rank', () => {
  // With one microbatch each the sum over ranks is the sum over microbatches.
  it.each<[GridAxes, number]>([
    [{ data: 2 }, 2],
    [{ data: 2, zero: 1 }, 2],
    [{ pipeline: 2, data: 2 }, 2],
  ])('%o', async (axes, microbatches) => {
    const expected = await trainGrid(device, 'llama', config(microbatches), undefined)
    const { reports, parameters } = await trainGrid(device, 'llama', config(microbatches), gridOf(axes, microbatches))
    for (const list of reports) expect(list).toEqual(expected.reports[0])
    for (const [name, values] of expected.parameters) expect(parameters.get(name), name).toEqual(values)
  })
})

describe('tensor-parallel ranks', () => {
  it.each<[keyof typeof models, GridAxes]>([
    ['llama', { tensor: 2 }],
    ['gpt2', { tensor: 2 }],
    ['llama', { pipeline: 2, tensor: 2 }],
  ])('%s %o', async (model, axes) => {
    const expected = await trainGrid(device, model, config(2), undefined)
    const { reports, parameters } = await trainGrid(device, model, config(2), gridOf(axes, 2))
    for (const list of reports) for (const [i, { loss, norm }] of list.entries()) {
      const one = expected.reports[0]![i]!
      console.log(model, i, (loss - one.loss) / one.loss, (norm - one.norm) / one.norm)
    }
    for (const [name, values] of expected.parameters) {
      const got = parameters.get(name)!
      let worst = 0
      values.forEach((v, i) => { worst = Math.max(worst, Math.abs(v - got[i]!)) })
      console.log(name, worst)
    }
  })
})
