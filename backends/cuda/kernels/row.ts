/** Widest row that one warp takes: two 16-byte loads a lane. */
const NARROW = 256

/** Constants and grid of a kernel over rows (kernels-cuda/lib/row.h) with blocks of `threads` threads. */
export function rowTeams(
  rows: number,
  width: number,
  threads: number,
): { blocks: number; constants: { rows: number; width: number; team: number } } {
  const team = width <= NARROW ? 32 : threads
  return { blocks: Math.ceil((rows * team) / threads), constants: { rows, width, team } }
}
