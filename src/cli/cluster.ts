import { readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command } from 'commander'
import { packageRoot } from '../../backends/package_root.ts'
import { ExactmapError } from '../errors.ts'
import { refuseIo } from '../formats/node_file.ts'
import { type Cluster, loadCluster } from '../parallel/topology/cluster.ts'
import { sourceLines, tierRows, totalRows } from '../parallel/topology/cluster_report.ts'
import { loadPlan, type Plan } from '../parallel/topology/plan.ts'
import { parsePlanFile } from '../parallel/topology/plan_file.ts'
import { axisRows, reportAxes } from '../parallel/topology/plan_report.ts'
import { grouped } from './options.ts'
import { table } from './table.ts'

const shippedFolder = (): string => join(packageRoot(), 'assets', 'clusters')

/** Names of the cluster files in the package. */
export const shippedClusters = (): string[] =>
  readdirSync(shippedFolder())
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => file.slice(0, -'.yaml'.length))
    .sort()

/**
 * Reads a shipped cluster by its name, or a cluster file by its path.
 *
 * @throws ExactmapError `not_found`, `io`, and what `loadCluster` throws
 */
export async function readCluster(named: string): Promise<Cluster> {
  const isName = /^[\w-]+$/.test(named)
  if (isName && !shippedClusters().includes(named))
    throw new ExactmapError(
      'not_found',
      `expected a cluster file (*.yaml) or one of ${shippedClusters().join(', ')}, got '${named}'`,
    )
  const file = isName ? join(shippedFolder(), `${named}.yaml`) : named
  return loadCluster(await readFile(file).catch((cause) => refuseIo(file, 'reading', cause)), file)
}

/**
 * Reads a plan file and its cluster: the one given, or the one the plan names.
 *
 * @throws ExactmapError as `readCluster` and `loadPlan`
 */
export async function readPlan(file: string, cluster?: string): Promise<Plan> {
  const bytes = await readFile(file).catch((cause) => refuseIo(file, 'reading', cause))
  return loadPlan(bytes, file, await readCluster(cluster ?? parsePlanFile(bytes, file).cluster))
}

/** `exactmap cluster`: what a cluster file says, and how a plan lies on it. */
export function clusterCommand(): Command {
  return new Command('cluster')
    .description('print a cluster: tiers, totals, ranks; with --plan how a plan lies on it')
    .argument('<cluster>', 'a cluster file (*.yaml) or the name of a shipped one')
    .option('--plan <file>', 'a plan file (YAML) for this cluster')
    .option('--json', 'print as JSON')
    .addHelpText('after', () => `\nShipped clusters: ${shippedClusters().join(', ')}.`)
    .action(async (named: string, o: { plan?: string; json?: boolean }) => {
      const cluster = await readCluster(named)
      const plan =
        o.plan === undefined
          ? undefined
          : loadPlan(
              await readFile(o.plan).catch((cause) => refuseIo(o.plan!, 'reading', cause)),
              o.plan,
              cluster,
            )
      const text = o.json
        ? JSON.stringify({ ...clusterJson(cluster), ...(plan ? { plan: planJson(plan) } : {}) }, null, 2)
        : [...clusterText(cluster), ...(plan ? ['', ...planText(plan)] : [])].join('\n')
      process.stdout.write(`${text}\n`)
    })
}

const clusterJson = (cluster: Cluster): object => ({
  name: cluster.name,
  hash: cluster.hash,
  devices: cluster.devices,
  nodes: cluster.nodes,
  racks: cluster.racks,
  active: cluster.active.length,
  tiers: cluster.tiers,
  totals: cluster.totals(),
  file: cluster.file,
})

const planJson = (plan: Plan): object => ({
  hash: plan.hash,
  ranks: plan.ranks,
  idle: plan.cluster.active.length - plan.ranks,
  chunks: plan.chunks,
  file: plan.file,
  axes: reportAxes(plan),
  programs: plan.equalRanks(),
})

function clusterText(cluster: Cluster): string[] {
  const { devices, nodes, racks, active, file } = cluster
  const nics = file.node.nics
  return [
    `cluster  ${cluster.name}: ${file.title}`,
    `device   ${file.device.name} (${file.device.kind})`,
    `ranks    ${grouped(devices)} (racks ${grouped(racks)}, nodes ${grouped(nodes)}); ${grouped(active.length)} for plans, ${grouped(devices - active.length)} spare`,
    `nics     ${nics ? `${nics.count} x ${nics.name} a node` : 'none'}`,
    `hash     ${cluster.hash}`,
    '',
    ...table(tierRows(cluster)),
    '',
    ...table(totalRows(cluster)),
    '',
    'sources',
    ...sourceLines(file).map((line) => `  ${line}`),
  ]
}

function planText(plan: Plan): string[] {
  const { file, chunks, ranks, cluster } = plan
  const { grid, order, schedule, microbatches, zero, replicas } = file
  const idle = cluster.active.length - ranks
  const equal = plan.equalRanks()
  const rows = axisRows(reportAxes(plan))
  return [
    `plan     ${file.name ?? 'without a name'}, hash ${plan.hash}`,
    `grid     ${order.map((axis) => `${axis} ${grid[axis]}`).join(' x ')}, innermost first${replicas > 1 ? `; ${grouped(replicas)} replicas` : ''}`,
    `ranks    ${grouped(ranks)} in use, ${grouped(idle)} idle`,
    `schedule ${schedule.name}, ${chunks} chunk${chunks === 1 ? '' : 's'} a rank, ${grouped(microbatches)} microbatches, zero ${zero}`,
    `programs ${grouped(equal.length)}, each for ${grouped(ranks / equal.length)} equal ranks`,
    ...(rows.length > 1 ? ['', ...table(rows)] : []),
  ]
}
