import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { executableFile } from '../../backends/cuda/build/native.ts'
import { emulatedDriver } from '../../backends/cuda/build/places.ts'
import { writePrimitives } from '../../bench/gpu/primitives.ts'
import { emulatedDevice } from '../helpers/cuda.ts'

// What `npm run gpu` asks a GPU first, by the executable on the emulated device.

const device = await emulatedDevice()
const reason =
  typeof device === 'string' ? device : existsSync(executableFile()) ? '' : 'the executable is not built'

it.skipIf(reason)(
  `primitives are cases of the executable${reason && ` (skipped: ${reason})`}`,
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'exactmap-primitives-'))
    try {
      const { cases, modules } = await writePrimitives(folder, 'sm_90a', 'emulated')
      const { stdout, status } = spawnSync(
        executableFile(),
        ['verify', folder, '--driver', emulatedDriver()],
        { encoding: 'utf8' },
      )
      expect(stdout).toContain(`${cases.length} passed, 0 failed`)
      expect(status).toBe(0)
      expect(cases.flatMap(({ kernels }) => kernels).filter((kernel) => !modules[kernel])).toEqual([])
    } finally {
      if (typeof device !== 'string') device.destroy()
      rmSync(folder, { recursive: true, force: true })
    }
  },
  240_000,
)
