import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { emulatedNccl } from '../../../backends/cuda/build/places.ts'
import { here, kernels, missing, printMissing, runProgram } from './emulated.ts'

printMissing()

describe.skipIf(missing)('the emulated driver', () => {
  const files: Record<string, readonly string[]> = {
    'streams.cpp': ['streams_and_events', 'graphs', 'captures', 'host_functions'],
    'nccl.cpp': ['nccl_groups', 'nccl_counts', 'nccl_misuse'],
  }
  const check = async (name: string, env: Record<string, string> = {}): Promise<string> =>
    runProgram(Object.keys(files).find((f) => files[f]!.includes(name)) ?? 'driver.cpp', name, {
      NCCL: emulatedNccl(),
      KERNELS: await kernels(join(here, 'primitives.cu')),
      ...env,
    })

  it.each<[string, string, Record<string, string>?]>([
    ['gives functions by name and version, and errors their names', 'entry_points'],
    [
      'shows the devices that the environment asks for',
      'devices',
      {
        EXACTMAP_EMULATED_DEVICES: '2',
        EXACTMAP_EMULATED_CAPABILITY: '103',
        EXACTMAP_EMULATED_MEMORY: '1048576',
      },
    ],
    ['has no devices where the environment says so', 'no_devices', { EXACTMAP_EMULATED_DEVICES: '0' }],
    ['needs a context, which belongs to a thread', 'contexts'],
    ['refuses ranges outside its allocations', 'memory'],
    ['orders streams by events', 'streams_and_events'],
    ['runs graphs as they were built', 'graphs'],
    ['captures streams into graphs, and ends a capture at what has no place in it', 'captures'],
    ['runs host functions beside what does not wait for them', 'host_functions'],
    ['has an NCCL that moves groups of messages', 'nccl_groups', { EXACTMAP_EMULATED_DEVICES: '3' }],
    [
      'has an NCCL that knows a wrong count, a member or device that is there twice, and one that does not come',
      'nccl_counts',
      { EXACTMAP_EMULATED_DEVICES: '3', EXACTMAP_EMULATED_NCCL_TIMEOUT: '0.5' },
    ],
    ['has an NCCL that refuses wrong calls', 'nccl_misuse', { EXACTMAP_EMULATED_DEVICES: '3' }],
    ['loads kernel libraries only', 'libraries'],
    ['keeps an error until the context is reset', 'sticky_errors'],
    [
      'fails the calls that the environment asks for',
      'planned_failures',
      { EXACTMAP_EMULATED_FAIL: 'cuMemAlloc:2:2,cuStreamSynchronize:1:719' },
    ],
  ])('%s', { timeout: 120_000 }, async (_, name, env) => {
    expect(await check(name, env)).toBe('')
  })

  it('leaves faults outside kernels alone', async () => {
    await expect(check('own_fault')).rejects.toMatchObject({ signal: 'SIGSEGV' })
  })
})
