import { PAGE_TOKENS } from '../kv_cache/layout.ts'
import type { OpCall } from '../ops/contract.ts'
import { formatOf } from '../tensor/format.ts'
import { Philox } from '../tensor/philox.ts'
import { elementCount } from '../tensor/type.ts'

/** Tokens in the cache where a call reads one; fewer where the cache is smaller. */
const CACHED = 512
/** Different values of a tensor; more would only take longer to make. */
const PERIOD = 4099

/** Bytes for every input of a call: seeded bell-shaped numbers, and indices that are valid. */
export function inputsOf(call: OpCall): Record<string, Uint8Array> {
  return Object.fromEntries(
    Object.entries(call.inputs).map(([port, { format, shape }], i) => {
      const count = elementCount(shape)
      const isIndex = format === 'u32' || format === 'i32'
      const values = isIndex ? indices(count, call, port) : normals(count, i + 1)
      return [port, formatOf(format).encode(values)]
    }),
  )
}

function normals(count: number, seed: number): Float64Array {
  const random = new Philox(seed)
  const values = new Float64Array(count)
  const first = Math.min(count, PERIOD)
  for (let i = 0; i < first; i++) values[i] = random.normal()
  for (let done = first; done < count; done *= 2) values.copyWithin(done, 0, Math.min(done, count - done))
  return values
}

/** Indices as a model gives them: rows at the end of a cache, sequences in order; elsewhere 0, which every op takes. */
function indices(count: number, { inputs }: OpCall, port: string): Float64Array {
  const { k_pool: pool, page_table: table } = inputs
  const values = new Float64Array(count)
  if (!pool || !table) return values
  const rows = elementCount((inputs.position ?? table).shape)
  const [sequences, pages] = table.shape as [number, number]
  const last = Math.min(pages * PAGE_TOKENS, Math.max(rows, CACHED)) - 1
  const decode = rows <= sequences
  if (port === 'page_table') return values.map((_, i) => i % pool.shape[0]!)
  if (port === 'position') return values.map((_, i) => (decode ? last : last - (rows - 1 - i)))
  if (port === 'sequence') return values.map((_, i) => (decode ? i : 0))
  return values
}
