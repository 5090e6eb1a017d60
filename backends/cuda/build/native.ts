import { join } from 'node:path'
import { buildWithCmake } from '../../build/cmake.ts'
import { packageRoot } from '../../package_root.ts'
import { addonFile } from '../addon.ts'
import { cudaDist } from './places.ts'

/** The standalone executable. */
export const executableFile = (): string => join(cudaDist(), 'exactmap-cuda')

/**
 * Builds addon and executable.
 *
 * @throws ExactmapError what `buildWithCmake` throws
 */
export const buildNative = (): Promise<readonly string[]> =>
  buildWithCmake({
    name: 'the CUDA runtime',
    folder: join(packageRoot(), 'backends', 'cuda'),
    sources: ['CMakeLists.txt', 'package.json', 'runtime', 'addon', 'executable'],
    output: cudaDist(),
    files: [addonFile(), executableFile()],
    tools: ['cmake', 'g++'],
  })
