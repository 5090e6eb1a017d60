import { existsSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { RecentImages } from '../../backends/cuda/build/recent.ts'

const folder = mkdtempSync(join(tmpdir(), 'exactmap-recent-'))
afterAll(() => rmSync(folder, { recursive: true }))

it('images of generated texts that were used last are kept', async () => {
  const there = (module: string) =>
    ['cubin', 'json'].map((kind) => existsSync(join(folder, `${module}.${kind}`)))
  const source = {
    async image(module: string): Promise<Uint8Array> {
      for (const kind of ['cubin', 'json']) writeFileSync(join(folder, `${module}.${kind}`), '{}')
      return new Uint8Array(1)
    },
  }
  const images = new RecentImages(source, folder, 2)
  const age = (module: string, seconds: number) =>
    utimesSync(join(folder, `${module}.json`), new Date(seconds * 1000), new Date(seconds * 1000))
  for (const [at, module] of ['walker_1', 'walker_12'].entries()) {
    await images.image(module, '')
    age(module, 1000 + at)
  }
  // Used again, so the other one is older now, whose name begins with this one's.
  await images.image('walker_1', '')
  await images.image('walker_3', '')
  expect(there('walker_1')).toEqual([true, true])
  expect(there('walker_12')).toEqual([false, false])
  expect(there('walker_3')).toEqual([true, true])
})
