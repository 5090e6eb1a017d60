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
      const at = format === 'u32' || format === 'i32' ? indices(call, port) : normals(i + 1)
      return [port, formatOf(format).encode(Float64Array.from({ length: count }, (_, e) => at(e)))]
    }),
  )
}

function normals(seed: number): (element: number) => number {
  const random = new Philox(seed)
  const values = Float64Array.from({ length: PERIOD }, () => random.normal())
  return (element) => values[element % PERIOD]!
}

/** Indices as a model gives them: rows at the end of a cache, sequences in order; elsewhere 0, which every op takes. */
function indices({ inputs }: OpCall, port: string): (element: number) => number {
  const { k_pool: pool, page_table: table } = inputs
  if (!pool || !table) return () => 0
  const rows = elementCount((inputs.position ?? table).shape)
  const [sequences, pages] = table.shape as [number, number]
  const last = Math.min(pages * PAGE_TOKENS, Math.max(rows, CACHED)) - 1
  if (port === 'page_table') return (e) => e % pool.shape[0]!
  if (port === 'position') return (e) => (rows <= sequences ? last : last - (rows - 1 - e))
  if (port === 'sequence') return (e) => (rows <= sequences ? e : 0)
  return () => 0
}
