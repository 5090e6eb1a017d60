import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { OpContract } from '../ops/contract.ts'
import { decodeVector, encodeVector, makeVector, type Vector } from './vector.ts'

/** Names of the stored cases of an op. */
export const storedCases = (root: string, op: string): string[] =>
  existsSync(join(root, op))
    ? readdirSync(join(root, op))
        .filter((f) => f.endsWith('.safetensors'))
        .map((f) => f.slice(0, -'.safetensors'.length))
        .sort()
    : []

export async function readVector(root: string, op: string, name: string): Promise<Vector> {
  const path = join(root, op, `${name}.safetensors`)
  return decodeVector(new Uint8Array(readFileSync(path)), path)
}

/** Writes all vectors of an op and removes files of cases that no longer exist. Returns bytes written. */
export function writeVectors(root: string, contract: OpContract): number {
  const folder = join(root, contract.name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  let bytes = 0
  for (const one of contract.cases) {
    const encoded = encodeVector(makeVector(contract, one))
    writeFileSync(join(folder, `${one.name}.safetensors`), encoded)
    bytes += encoded.length
  }
  return bytes
}
