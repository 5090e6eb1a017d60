import { installHint, knownVersion, runTool } from '../../backends/build/tools.ts'
import { loadMpi, mpiVersion } from '../../backends/mpi/addon.ts'
import { ExactmapError } from '../errors.ts'

/** What this machine has for runs of several ranks. */
export interface RanksReport {
  /** MPI library that the addon was built for; absent where the addon can't be loaded. */
  readonly mpi?: string
  /** Why it can't. */
  readonly problem?: string
  /** Launchers on the PATH, with their versions. */
  readonly launchers: readonly string[]
}

export async function examineRanks(): Promise<RanksReport> {
  const found = [await knownVersion('mpirun'), await slurmVersion()]
  const launchers = found.filter((line) => line !== undefined)
  try {
    return { mpi: mpiVersion(loadMpi()), launchers }
  } catch (error) {
    if (!(error instanceof ExactmapError)) throw error
    return { problem: error.message, launchers }
  }
}

/** Also where there is no cluster, which srun needs to give its version. */
async function slurmVersion(): Promise<string | undefined> {
  const ran = await runTool('srun', ['--version'])
  return ran?.code === 0 ? ran.out.trim() : ran && 'srun (without a configuration of Slurm)'
}

/** Lines of the report for people. */
export function ranksLines({ mpi, problem, launchers }: RanksReport): string[] {
  const started = launchers.join(', ') || `no mpirun or srun on the PATH; ${installHint('mpirun')}`
  return [`ranks      ${mpi ? `${mpi}, addon built` : problem}`, `           launchers: ${started}`]
}
