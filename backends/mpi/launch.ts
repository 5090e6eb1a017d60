import { check } from '../../src/errors.ts'

/** What the launcher's environment says of this process. */
export interface Launch {
  readonly by: 'mpirun' | 'srun' | 'pmix'
  readonly rank: number
  /** Ranks of the run; undefined where only MPI knows: PMIx does not put it into the environment. */
  readonly size: number | undefined
}

export type Environment = Readonly<Record<string, string | undefined>>

/**
 * Whether this process was started as one of several ranks, by what, and which it is: from the environment alone, without
 * loading MPI. Undefined for a process that runs alone, also one started with a single rank.
 *
 * @throws ExactmapError `invalid_config` where a variable is no number
 */
export function launchedBy(env: Environment): Launch | undefined {
  const number = (name: string): number | undefined => {
    const text = env[name]
    if (text === undefined || text === '') return undefined
    check(
      /^\d{1,9}$/.test(text),
      'invalid_config',
      `${name} must be a whole number, as the launcher sets it; got '${text}'`,
    )
    return Number(text)
  }
  const launch = (by: Launch['by'], rank: string, size?: string): Launch | undefined => {
    const own = number(rank)
    if (own === undefined) return undefined
    const all = size === undefined ? undefined : number(size)
    check(all !== 0 && own < (all ?? Infinity), 'invalid_config', `${rank} is ${own}, ${size} is ${all}`)
    return { by, rank: own, size: all }
  }
  // Open MPI's own variables first: its mpirun may itself have been started by srun.
  const found = env.OMPI_COMM_WORLD_SIZE
    ? launch('mpirun', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE')
    : // Not SLURM_NTASKS, which a batch script has too: it is of the allocation, this of what srun started.
      env.SLURM_STEP_NUM_TASKS
      ? launch('srun', 'SLURM_PROCID', 'SLURM_STEP_NUM_TASKS')
      : launch('pmix', 'PMIX_RANK')
  return found?.size === 1 ? undefined : found
}

/** This process among the ranks of its host, from 0, as the launcher says; 0 where it does not. */
export function localRank(env: Environment): number {
  const text = env.OMPI_COMM_WORLD_LOCAL_RANK ?? env.SLURM_LOCALID ?? env.PMIX_LOCAL_RANK ?? '0'
  return /^\d{1,9}$/.test(text) ? Number(text) : 0
}
