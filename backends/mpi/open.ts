import { check } from '../../src/errors.ts'
import { localTransports } from '../local_transport.ts'
import type { Transport } from '../transport.ts'
import { type Environment, launchedBy } from './launch.ts'
import { openMpi } from './transport.ts'

/**
 * The transport of this process: MPI's where a launcher started it as one of several ranks, otherwise one of a single
 * rank.
 *
 * @throws ExactmapError `not_found` where there are several ranks and the MPI addon is not built; `conflict` where MPI does
 *   not know of the other ranks
 */
export async function openRanks(env: Environment = process.env): Promise<Transport> {
  const launch = launchedBy(env)
  if (!launch) return localTransports(1)[0]!
  // Before MPI starts: Open MPI ends a process that finds no PMIx, with a page of its own advice.
  check(
    launch.by !== 'srun' || env.PMIX_RANK !== undefined,
    'conflict',
    () => `srun started ${launch.size} ranks that do not know of each other: use srun --mpi=pmix`,
  )
  const transport = await openMpi()
  const { rank, size } = transport
  check(
    rank === launch.rank && size === (launch.size ?? size),
    'conflict',
    () =>
      `${launch.by} started rank ${launch.rank} of ${launch.size}, MPI says rank ${rank} of ${size}: build the addon (npx exactmap build mpi) for the MPI that starts the ranks`,
  )
  return transport
}
