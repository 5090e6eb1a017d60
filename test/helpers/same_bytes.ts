type Tensors = ReadonlyMap<string, Float32Array>

const bytes = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)

/** Names of tensors that only one of the two has, or whose bytes differ. Vitest's own comparison goes by element: seconds. */
export function differing(got: Tensors, want: Tensors): string[] {
  return [...new Set([...got.keys(), ...want.keys()])].filter((name) => {
    const [a, b] = [got.get(name), want.get(name)]
    return !a || !b || Buffer.compare(bytes(a), bytes(b)) !== 0
  })
}
