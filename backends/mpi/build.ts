import { join } from 'node:path'
import { check } from '../../src/errors.ts'
import { buildWithCmake } from '../build/cmake.ts'
import { installHint, runTool } from '../build/tools.ts'
import { packageRoot } from '../package_root.ts'
import { addonFile } from './addon.ts'

/**
 * Builds the addon for the MPI whose mpicc is on the PATH.
 *
 * @throws ExactmapError `not_found` without MPI or a tool, `kernel_compile` with the compiler's words
 */
export async function buildMpi(): Promise<readonly string[]> {
  // The command line it stands for: names the MPI, and changes with it.
  const mpi = await runTool('mpicc', ['-show'])
  check(mpi?.code === 0, 'not_found', `the MPI addon: mpicc is not installed; ${installHint('mpicc')}`)
  return buildWithCmake({
    name: 'the MPI addon',
    folder: join(packageRoot(), 'backends', 'mpi'),
    sources: ['CMakeLists.txt', 'package.json', 'addon'],
    output: join(packageRoot(), 'dist', 'mpi'),
    files: [addonFile()],
    tools: ['cmake', 'g++'],
    environment: mpi.out,
  })
}
