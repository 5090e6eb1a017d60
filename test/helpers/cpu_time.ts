/** Milliseconds of processor time that this process has taken so far: what else the machine does counts little. */
export function cpuTime(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}
