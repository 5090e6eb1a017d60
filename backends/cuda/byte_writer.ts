/** Writes the files the C runtime reads: little endian, unaligned; a string is its length as u32 and UTF-8. */
export class ByteWriter {
  private buffer = new Uint8Array(4096)
  private view = new DataView(this.buffer.buffer)
  private length = 0

  private reserve(bytes: number): number {
    const at = this.length
    this.length += bytes
    if (this.length > this.buffer.length) {
      const larger = new Uint8Array(Math.max(this.length, 2 * this.buffer.length))
      larger.set(this.buffer)
      this.buffer = larger
      this.view = new DataView(larger.buffer)
    }
    return at
  }

  u32(value: number): void {
    const at = this.reserve(4)
    this.view.setUint32(at, value, true)
  }

  u64(value: number | bigint): void {
    const at = this.reserve(8)
    this.view.setBigUint64(at, BigInt(value), true)
  }

  f64(value: number): void {
    const at = this.reserve(8)
    this.view.setFloat64(at, value, true)
  }

  /** u64 length, then the bytes. */
  blob(value: Uint8Array): void {
    this.u64(value.byteLength)
    this.bytes(value)
  }

  bytes(value: Uint8Array): void {
    const at = this.reserve(value.byteLength)
    this.buffer.set(value, at)
  }

  text(value: string): void {
    const bytes = new TextEncoder().encode(value)
    this.u32(bytes.byteLength)
    this.bytes(bytes)
  }

  list<T>(items: readonly T[], write: (item: T) => void): void {
    this.u32(items.length)
    for (const item of items) write(item)
  }

  /** The file: 8 characters that name its kind, u32 version, u32 0, u64 bytes and u64 FNV-1a of the body, the body. */
  finish(magic: string, version: number): Uint8Array<ArrayBuffer> {
    const body = this.buffer.subarray(0, this.length)
    const file = new Uint8Array(32 + body.length)
    const view = new DataView(file.buffer)
    file.set(new TextEncoder().encode(magic))
    view.setUint32(8, version, true)
    view.setBigUint64(16, BigInt(body.length), true)
    view.setBigUint64(24, fnv1a(body), true)
    file.set(body, 32)
    return file
  }
}

/**
 * FNV-1a, 64 bits (Fowler, Noll, Vo), over bytes or over little endian words of 8 bytes, the last padded with zeros:
 * finds damaged files, not forged ones.
 */
export function fnv1a(bytes: Uint8Array, word: 1 | 8 = 1): bigint {
  const whole = bytes.byteLength % word === 0
  const padded = whole ? bytes : new Uint8Array(Math.ceil(bytes.byteLength / word) * word)
  if (!whole) padded.set(bytes)
  const view = new DataView(padded.buffer, padded.byteOffset, padded.byteLength)
  // In two halves of 32 bits: a BigInt operation per byte would take a second per ten megabytes.
  let [high, low] = [0xcbf29ce4, 0x84222325]
  for (let at = 0; at < padded.byteLength; at += word) {
    if (word === 8) high ^= view.getUint32(at + 4, true)
    low = (low ^ (word === 8 ? view.getUint32(at, true) : padded[at]!)) >>> 0
    // times 0x100000001b3 = 2^40 + 0x1b3
    const product = low * 0x1b3
    high = (Math.imul(high, 0x1b3) + Math.floor(product / 2 ** 32) + (low << 8)) >>> 0
    low = product >>> 0
  }
  return (BigInt(high >>> 0) << 32n) | BigInt(low)
}
