import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import { buildMpi } from '../../backends/mpi/build.ts'
import { launchedBy } from '../../backends/mpi/launch.ts'
import { openRanks } from '../../backends/mpi/open.ts'

// An installation in which nothing was built.
const { empty } = vi.hoisted(() => ({ empty: { folder: '' } }))
vi.mock('../../backends/package_root.ts', () => ({ packageRoot: () => empty.folder }))
empty.folder = mkdtempSync(join(tmpdir(), 'exactmap-launch-'))
afterEach(() => vi.unstubAllEnvs())
afterAll(() => rmSync(empty.folder, { recursive: true }))

const mpirun = { OMPI_COMM_WORLD_SIZE: '4', OMPI_COMM_WORLD_RANK: '3', PMIX_RANK: '3' }
const srun = { SLURM_STEP_NUM_TASKS: '8', SLURM_PROCID: '5', SLURM_NTASKS: '8' }

describe('launchedBy', () => {
  it.each([
    ['nothing', {}, undefined],
    ['mpirun', mpirun, { by: 'mpirun', rank: 3, size: 4 }],
    ['mpirun with one rank', { OMPI_COMM_WORLD_SIZE: '1', OMPI_COMM_WORLD_RANK: '0' }, undefined],
    ['srun', { ...srun, PMIX_RANK: '5' }, { by: 'srun', rank: 5, size: 8 }],
    ['srun without PMIx', srun, { by: 'srun', rank: 5, size: 8 }],
    ['srun with one rank', { SLURM_STEP_NUM_TASKS: '1', SLURM_PROCID: '0', PMIX_RANK: '0' }, undefined],
    ['a batch script of Slurm', { SLURM_NTASKS: '8', SLURM_PROCID: '0' }, undefined],
    ['mpirun, its daemons by srun', { ...srun, ...mpirun }, { by: 'mpirun', rank: 3, size: 4 }],
    ['another launcher with PMIx', { PMIX_RANK: '2' }, { by: 'pmix', rank: 2, size: undefined }],
  ])('%s', (_, env, expected) => {
    expect(launchedBy(env)).toEqual(expected)
  })

  it('names the variable that is wrong', () => {
    expect(() => launchedBy({ ...mpirun, OMPI_COMM_WORLD_RANK: 'x' })).toThrow(
      "OMPI_COMM_WORLD_RANK must be a whole number, as the launcher sets it; got 'x'",
    )
    expect(() => launchedBy({ ...mpirun, OMPI_COMM_WORLD_RANK: '4' })).toThrow(
      'OMPI_COMM_WORLD_RANK is 4, OMPI_COMM_WORLD_SIZE is 4',
    )
  })
})

describe('openRanks', () => {
  it('is one rank where nothing launched it', async () => {
    expect(await openRanks({})).toMatchObject({ name: 'local', rank: 0, size: 1 })
  })

  it('says what to build', async () => {
    await expect(openRanks(mpirun)).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('the MPI addon is not built; run npx exactmap build mpi'),
    })
  })

  it('says what to do where MPI is missing', async () => {
    mkdirSync(join(empty.folder, 'dist', 'mpi'), { recursive: true })
    const file = join(empty.folder, 'dist', 'mpi', 'exactmap_mpi.node')
    writeFileSync(file, 'no library')
    await expect(openRanks(mpirun)).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringMatching(
        /can't be loaded: .*apt-get install openmpi-bin.*run npx exactmap build mpi/,
      ),
    })
    vi.stubEnv('PATH', empty.folder)
    await expect(buildMpi()).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringMatching(/mpicc is not installed; .*apt-get install openmpi-bin libopenmpi-dev/),
    })
  })

  it('refuses ranks of srun that do not know of each other', async () => {
    await expect(openRanks(srun)).rejects.toMatchObject({
      code: 'conflict',
      message: 'srun started 8 ranks that do not know of each other: use srun --mpi=pmix',
    })
  })
})
