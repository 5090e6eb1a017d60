import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'

/** JSON with object keys in code-point order and no spaces: equal values give equal text. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value).filter(([, v]) => v !== undefined)
    entries.sort(([a], [b]) => (a < b ? -1 : 1))
    return `{${entries.map(([k, v]) => `${JSON.stringify(k)}:${canonicalJson(v)}`).join(',')}}`
  }
  return JSON.stringify(value)
}

/** sha-256 of the canonical JSON, first 16 hex digits. */
export const hashOf = (value: unknown): string => hashText(canonicalJson(value))

export const hashText = (text: string): string => bytesToHex(sha256(utf8ToBytes(text))).slice(0, 16)

export const hashBytes = (bytes: Uint8Array): string => bytesToHex(sha256(bytes))
