import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Command } from 'commander'
import { type AdapterCheck, checkAdapter } from '../../backends/webgpu/node/adapter_check.ts'
import { type DriverChoice, driverOrder, openAdapter } from '../../backends/webgpu/node/driver.ts'
import { type CudaReport, cudaLines, examineCuda } from './doctor_cuda.ts'
import { examineRanks, type RanksReport, ranksLines } from './doctor_ranks.ts'

/** What one driver did in a process of its own. */
interface DriverReport {
  readonly driver: string
  readonly works: boolean
  /** What went wrong; absent when it works. */
  readonly problem?: string
  readonly choice?: DriverChoice
  readonly limits?: Record<string, number>
  readonly features?: readonly string[]
  readonly subgroups?: string
  readonly check?: AdapterCheck
}

interface DoctorReport {
  readonly works: boolean
  readonly platform: string
  readonly node: string
  readonly webgpu: string
  /** What a program gets when it asks for nothing: `auto`, or what EXACTMAP_DRIVER says. */
  readonly chosen: DriverReport
  /** The other drivers of this platform, each tried alone. */
  readonly others: readonly DriverReport[]
  readonly cuda: CudaReport
  readonly ranks: RanksReport
}

/** Limits and features that decide which kernels run and how large a model may be. */
const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'minStorageBufferOffsetAlignment',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupStorageSize',
] as const
const FEATURES = ['shader-f16', 'subgroups', 'timestamp-query'] as const

/** Above this a driver is taken for hung. */
const TIMEOUT_MS = 30_000
/** Marks the report among what drivers print to stdout. */
const MARK = 'exactmap-driver-report '

/** `exactmap doctor [--json]`: which driver is used here, why, whether it computes, and what would be faster. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('say which driver is used on this machine, why, whether it works and what would be faster')
    .option('--json', 'print the report as JSON')
    .option('--probe <driver>', 'try one driver in this process (what doctor starts for each)')
    .action(async (options: { json?: boolean; probe?: string }) => {
      if (options.probe !== undefined) {
        process.stdout.write(`\n${MARK}${JSON.stringify(await probe(options.probe))}\n`, () =>
          process.exit(0),
        )
        return
      }
      const report = await examine()
      process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : text(report))
      process.exitCode = report.works ? 0 : 1
    })
}

async function examine(): Promise<DoctorReport> {
  const chosen = await inOwnProcess(process.env.EXACTMAP_DRIVER || 'auto')
  const others: DriverReport[] = []
  for (const driver of driverOrder(process.platform, process.arch))
    if (driver !== (chosen.choice?.kind ?? chosen.driver)) others.push(await inOwnProcess(driver))
  return {
    works: chosen.works,
    platform: `${process.platform}-${process.arch}`,
    node: process.version,
    webgpu: webgpuVersion(),
    chosen,
    others,
    cuda: await examineCuda(),
    ranks: await examineRanks(),
  }
}

/** Opens one driver and computes with it, in this process. */
async function probe(driver: string): Promise<DriverReport> {
  try {
    // Through the variable, as a user would ask for it: the report then gives that as the reason.
    process.env.EXACTMAP_DRIVER = driver
    const { adapter, choice } = await openAdapter()
    const { subgroupMinSize: min, subgroupMaxSize: max } = adapter.info
    return {
      driver,
      works: true,
      choice,
      limits: Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]])),
      features: FEATURES.filter((name) => adapter.features.has(name)),
      subgroups: min === max ? `${min}` : `${min} to ${max}`,
      check: await checkAdapter(adapter),
    }
  } catch (error) {
    return { driver, works: false, problem: (error as Error).message }
  }
}

/** The same in a child process: a driver that crashes or hangs ends as a line in the report. */
function inOwnProcess(driver: string): Promise<DriverReport> {
  const args = [...process.execArgv, process.argv[1]!, 'doctor', '--probe', driver]
  return new Promise((resolve) => {
    const failed = (problem: string) => resolve({ driver, works: false, problem })
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    })
    const output = { out: '', err: '' }
    child.stdout.on('data', (chunk) => (output.out += chunk))
    child.stderr.on('data', (chunk) => (output.err += chunk))
    child.on('error', (error) => failed(`its process did not start: ${error.message}`))
    child.on('close', (code, signal) => {
      const line = output.out.split('\n').find((l) => l.startsWith(MARK))
      if (line) return resolve(JSON.parse(line.slice(MARK.length)))
      const last = output.err.trim().split('\n').at(-1)
      failed(
        `${child.killed ? `it did not answer within ${TIMEOUT_MS / 1000} s` : `its process ended with ${signal ?? `code ${code}`}`}${last ? ` (${last})` : ''}; choose another with EXACTMAP_DRIVER`,
      )
    })
  })
}

function webgpuVersion(): string {
  try {
    const entry = createRequire(import.meta.url).resolve('webgpu/package.json')
    return JSON.parse(readFileSync(entry, 'utf8')).version
  } catch {
    return 'not installed'
  }
}

/** The report for people. */
function text(report: DoctorReport): string {
  const { chosen } = report
  const lines = [
    `exactmap doctor: ${report.works ? 'a device works' : 'NO DEVICE WORKS'}`,
    `platform   ${report.platform}, node ${report.node}, webgpu (Dawn) ${report.webgpu}`,
  ]
  if (chosen.choice) {
    lines.push(`driver     ${chosen.choice.name}`, `why        ${chosen.choice.reason}`)
    for (const { name, result, detail } of chosen.choice.tried) lines.push(`  ${name}: ${result}, ${detail}`)
    lines.push(
      `limits     ${Object.entries(chosen.limits ?? {})
        .map(([k, v]) => `${k} ${v}`)
        .join('\n           ')}`,
    )
    const missing = FEATURES.filter((name) => !chosen.features?.includes(name))
    lines.push(
      `features   ${chosen.features?.join(', ') || 'none'}${missing.length > 0 ? ` (missing: ${missing.join(', ')})` : ''}`,
      `subgroups  ${chosen.subgroups} lanes`,
    )
  }
  lines.push(`check      ${verdict(chosen)}`)
  for (const other of report.others) lines.push(`also       ${other.driver}: ${verdict(other)}`)
  const working = report.others.find((other) => other.works)
  if (!report.works && working) lines.push(`fix        set EXACTMAP_DRIVER=${working.driver}`)
  lines.push(...cudaLines(report.cuda), ...ranksLines(report.ranks))
  if (chosen.choice?.faster) lines.push(`faster     ${chosen.choice.faster}`)
  return `${lines.join('\n')}\n`
}

function verdict(report: DriverReport): string {
  if (!report.check) return `does not work: ${report.problem}`
  const { elements, firstMs, launchMs } = report.check
  return `works: ${elements} sums checked, first after ${firstMs.toFixed(0)} ms, then ${launchMs.toFixed(2)} ms a launch`
}
