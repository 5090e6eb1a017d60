/**
 * GPT-2's byte alphabet: a visible character for each byte. Visible Latin-1 bytes stand for themselves, the others
 * take the characters from U+0100 on, in order.
 */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const visible = (b: number): boolean => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b !== 0xad)
  let next = 256
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(visible(b) ? b : next++))
})()

const byteOf = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]))

/** The bytes a token in the byte alphabet stands for; undefined for a text with other characters. */
export function bytesOfToken(token: string): Uint8Array | undefined {
  const bytes = Array.from(token, (character) => byteOf.get(character))
  return bytes.includes(undefined) ? undefined : Uint8Array.from(bytes as number[])
}
