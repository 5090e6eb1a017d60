import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { clusterCommand, shippedClusters } from '../../src/cli/cluster.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'exactmap-cluster-'))
})
afterEach(() => {
  vi.restoreAllMocks()
  rmSync(folder, { recursive: true })
})

async function printed(...args: string[]): Promise<string> {
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  await clusterCommand().parseAsync(args, { from: 'user' })
  const text = write.mock.calls.map(([piece]) => piece).join('')
  write.mockRestore()
  return text
}

const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}

const plan = `
cluster: gb300-8-racks
grid: { tensor: 8, data: 8, pipeline: 7 }
schedule: { name: 1f1b }
microbatches: 16
`

it.each(shippedClusters())('prints %s', async (name) => {
  const text = await printed(name)
  expect(text).toMatch(`cluster  ${name}: `)
  expect(text).toMatch(/^sources$/m)
  expect(text).not.toMatch(/undefined|NaN/)
})

it('prints how a plan lies on its cluster', async () => {
  const text = await printed('gb300-8-racks', '--plan', file('plan.yaml', plan))
  expect(text).toMatch(/^ranks {4}448 in use, 64 idle$/m)
  expect(text).toMatch(/^programs 7, each for 64 equal ranks$/m)
  expect(text).toMatch(/^pipeline +7 +64 +pod +64 +384 +100 GB\/s/m)
})

it('--json has tiers, totals and the plan', async () => {
  const json = JSON.parse(await printed('gb300-8-racks', '--json', '--plan', file('plan.yaml', plan)))
  expect(json).toMatchObject({ devices: 576, active: 512, totals: { memory: 576 * 288e9 } })
  expect(json.plan).toMatchObject({ ranks: 448, idle: 64, chunks: 1 })
  expect(json.plan.hash).toMatch(/^[0-9a-f]{16}$/)
  expect(json.plan.axes.map((a: { axis: string }) => a.axis)).toEqual(['tensor', 'data', 'pipeline'])
})

it('names what is not there', async () => {
  await expect(printed('gb400')).rejects.toMatchObject({
    code: 'not_found',
    message: expect.stringMatching(/expected a cluster file .* or one of .*laptop, got 'gb400'/),
  })
  await expect(printed(join(folder, 'none.yaml'))).rejects.toMatchObject({ code: 'not_found' })
  await expect(printed('laptop', '--plan', join(folder, 'none.yaml'))).rejects.toMatchObject({
    code: 'not_found',
  })
  await expect(printed(file('bad.yaml', 'name: 1'))).rejects.toMatchObject({
    code: 'invalid_config',
    message: expect.stringMatching(/name: .*bad\.yaml\]$/),
  })
})
