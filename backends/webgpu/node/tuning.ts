import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { refuseIo } from '../../../src/formats/node_file.ts'
import { hashText } from '../../../src/program/hash.ts'
import { packageRoot } from '../../package_root.ts'
import {
  parseTuning,
  type TunedChoice,
  type TuningFile,
  type TuningSignature,
  tuningFits,
} from '../tuning.ts'

/**
 * The tuning of an adapter. Where EXACTMAP_TUNING names a file, what is in that file (nothing for `off`). Else, kernel by
 * kernel, what `exactmap tune` wrote for this adapter, and what comes with the package for its driver if the kernels are
 * the same.
 *
 * @throws ExactmapError `not_found` for a file that was named and is not there; what `parseTuning` throws
 */
export function findTuning(
  signature: TuningSignature,
): { readonly entries: readonly TunedChoice[] } | undefined {
  const named = process.env.EXACTMAP_TUNING
  if (named === 'off') return undefined
  if (named) return readTuning(named)
  const path = userTuningPath(signature)
  const own = existsSync(path) ? readTuning(path).entries : []
  const kernels = new Set(own.map(({ op, kernel }) => `${op} ${kernel}`))
  const shipped = shippedEntries(signature).filter(({ op, kernel }) => !kernels.has(`${op} ${kernel}`))
  return { entries: [...own, ...shipped] }
}

function shippedEntries(signature: TuningSignature): readonly TunedChoice[] {
  if (!existsSync(shippedPath(signature.driver))) return []
  const shipped = shippedTuning(signature.driver)
  return tuningFits(shipped.signature, signature) ? shipped.entries : []
}

/** @throws ExactmapError `not_found`, `io`; what `parseTuning` throws */
export function readTuning(path: string): TuningFile {
  let bytes: Uint8Array
  try {
    bytes = readFileSync(path)
  } catch (cause) {
    refuseIo(path, 'reading', cause)
  }
  return parseTuning(bytes, path)
}

/** The tuning that comes with the package for a kind of driver, `lavapipe` or `swiftshader`. */
export const shippedTuning = (driver: string): TuningFile => readTuning(shippedPath(driver))

const shippedPath = (driver: string): string =>
  join(packageRoot(), 'backends', 'webgpu', 'tuning', `${driver}.json`)

/** Where `exactmap tune` writes for an adapter and every device looks: a file per signature in the user's cache. */
export function userTuningPath(signature: TuningSignature): string {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
  const hash = hashText(JSON.stringify(signature)).slice(0, 12)
  return join(cache, 'exactmap', 'tuning', `${signature.driver}-${hash}.json`)
}
