import type { Transport } from '../../backends/transport.ts'
import { ExactmapError } from '../errors.ts'

/** Milliseconds. */
const RANK_ZERO_FIRST = 1000

/**
 * A rank's whole work: `body`, then the common end. When `body` fails, the transport says why, once and with the rank's
 * number, and ends all ranks; where ranks are processes this does not return. What all ranks find alike, such as a wrong
 * plan, rank 0 tells: the others give it a second. A rank that the launcher ends with SIGTERM,
 * since another one failed, goes at once and says nothing: `body` must not take that signal.
 *
 * @throws what `body` throws, where ranks share a process
 */
export async function runAsRank<T>(transport: Transport, body: () => Promise<T>): Promise<T> {
  try {
    const result = await body()
    await transport.close()
    return result
  } catch (error) {
    if (transport.rank > 0) await new Promise((resolve) => setTimeout(resolve, RANK_ZERO_FIRST))
    transport.abort(toExactmapError(error))
    throw error
  }
}

/** A failure that is not ours is told with its stack: it is a bug. */
function toExactmapError(error: unknown): ExactmapError {
  if (error instanceof ExactmapError) return error
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return new ExactmapError('internal', text, {}, { cause: error })
}
