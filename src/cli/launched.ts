import { launchedBy, localRank } from '../../backends/mpi/launch.ts'
import { openRanks } from '../../backends/mpi/open.ts'
import type { Transport } from '../../backends/transport.ts'
import { runAsRank } from '../parallel/run_as_rank.ts'

/** Runs a command as what the launcher made of this process: one of several ranks, or the only one. */
export async function asOneOfTheRanks(
  body: (transport: Transport | undefined) => Promise<void>,
): Promise<void> {
  if (!launchedBy(process.env)) return body(undefined)
  const transport = await openRanks()
  await runAsRank(transport, () => body(transport))
}

/** The GPU of a rank is the one with its number on the host, where no other is named. */
export const backendOfRank = (backend: string): string =>
  backend === 'cuda' ? `cuda:${localRank(process.env)}` : backend
