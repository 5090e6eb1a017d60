import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { ExactmapError } from '../../src/errors.ts'
import { installHint } from '../build/tools.ts'
import { packageRoot } from '../package_root.ts'

/** What addon/ exports. Calls are answered, in any order, through `finished`; nothing here checks its arguments. */
export interface MpiAddon {
  /** The MPI library's description of itself; needs no `open`. */
  library(): string
  /** Once in a process. */
  open(id: number, pieceBytes: number, finished: Finished): void
  /** After `open` has finished. */
  world(): { readonly rank: number; readonly size: number; readonly channels: number }
  /** The bytes must stay where they are until it has finished. */
  send(id: number, to: number, channel: number, bytes: Uint8Array): void
  receive(id: number, from: number, channel: number, into: Uint8Array): void
  close(id: number): void
  stop(): void
  abort(code: number): never
}

/** @param bytes length of the message; of a received one also where it does not fit */
type Finished = (id: number, bytes: number, failure: string | undefined) => void

export const addonFile = (): string => join(packageRoot(), 'dist', 'mpi', 'exactmap_mpi.node')

let loaded: MpiAddon | undefined

/**
 * Loads addon and libmpi; starts nothing.
 *
 * @throws ExactmapError `not_found` where the addon is not built, or libmpi is missing
 */
export function loadMpi(): MpiAddon {
  if (loaded) return loaded
  const file = addonFile()
  if (!existsSync(file))
    throw new ExactmapError('not_found', 'the MPI addon is not built; run npx exactmap build mpi', { file })
  const module = { exports: {} as MpiAddon }
  try {
    // Open MPI's components expect to find the symbols of libmpi.
    process.dlopen(module, file, constants.dlopen.RTLD_NOW | constants.dlopen.RTLD_GLOBAL)
  } catch (cause) {
    throw new ExactmapError(
      'not_found',
      `the MPI addon can't be loaded: ${(cause as Error).message}; ${installHint('mpicc')}, then run npx exactmap build mpi`,
      { file },
      { cause },
    )
  }
  loaded = module.exports
  return loaded
}

/** Name and version of the MPI library, e.g. `Open MPI 4.1.4`. */
export const mpiVersion = (addon: MpiAddon): string =>
  addon
    .library()
    .split(',')[0]!
    .replace(/ v(?=\d)/, ' ')
    .trim()
