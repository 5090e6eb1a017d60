import { z } from 'zod'
import { formatQuantity } from './quantity.ts'
import { count, figure, identifier, line, readYaml } from './read.ts'

/** Number types that a device's peak is given for; always dense, never with structured sparsity. */
export const peakTypes = ['f64', 'f32', 'tf32', 'f16', 'bf16', 'fp8', 'nvfp4', 'int8'] as const

/** Most devices a cluster file may describe: ranks stay in 32-bit arrays of a few MB. */
const mostDevices = 1 << 22

const deviceSchema = z.strictObject({
  kind: z.enum(['gpu', 'cpu']),
  name: line,
  memory: figure('bytes').describe('installed'),
  usable_memory: figure('bytes').optional().describe('what programs can have of it, where that is known'),
  bandwidth: figure('bandwidth').describe('of its memory'),
  flops: z
    .partialRecord(z.enum(peakTypes), figure('flops'))
    .refine((f) => Object.keys(f).length > 0, 'expected the peak of at least one type'),
})

const nodeSchema = z.strictObject({
  devices: count(1024),
  host_memory: figure('bytes'),
  nics: z
    .strictObject({
      count: count(1024),
      name: line,
      bandwidth: figure('bandwidth').describe('of one, in each direction'),
    })
    .optional(),
})

const linkSchema = z.strictObject({
  bandwidth: figure('bandwidth').describe('of one device, in each direction'),
  latency: figure('time').describe('from one device to another, through all hops'),
  hops: z.array(identifier).max(16).describe('what lies between the two devices, in order').default([]),
  oversubscription: figure('ratio')
    .optional()
    .describe('how much less each device has when all send over this link at once'),
})

const tierSchema = z.strictObject({
  name: identifier,
  holds: count(1 << 20).describe('units of the level below; of the first tier: devices'),
  link: identifier.optional().describe('the link between units of the level below'),
  spares: z
    .strictObject({ count: z.number().int().min(0), source: line })
    .optional()
    .describe('units of the level below, in every unit of this tier, that no plan uses'),
})

const clusterSchema = z.strictObject({
  name: identifier,
  title: line,
  device: deviceSchema,
  node: nodeSchema,
  links: z.record(identifier, linkSchema).default({}),
  tiers: z.array(tierSchema).min(1).max(8),
  racks: count(1 << 20)
    .optional()
    .describe('racks there are, where the last unit of a tier above is not full'),
})

/** A cluster as its YAML file says it, quantities in SI units. Tiers go from the innermost outwards. */
export type ClusterFile = z.infer<typeof clusterSchema>

function* conflicts({ device, node, links, tiers, racks }: ClusterFile): Generator<[string, string]> {
  const { memory, usable_memory: usable } = device
  if (usable && usable.value > memory.value)
    yield [
      'device.usable_memory.value',
      `expected at most the installed ${formatQuantity(memory.value, 'bytes')}, got ${formatQuantity(usable.value, 'bytes')}`,
    ]
  const names = tiers.map((t) => t.name)
  for (const [i, name] of names.entries()) {
    // Ranks are told as rack, node and device, so the two innermost tiers are what these words mean.
    const expected = ['node', 'rack'][i]
    if (expected && name !== expected) yield [`tiers.${i}.name`, `expected '${expected}', got '${name}'`]
    else if (name === 'device' || names.indexOf(name) < i)
      yield [`tiers.${i}.name`, `expected a name no other level has, got '${name}'`]
  }
  if (tiers[0]!.holds !== node.devices)
    yield ['tiers.0.holds', `expected node.devices, which is ${node.devices}, got ${tiers[0]!.holds}`]
  for (const [i, { holds, link, spares }] of tiers.entries()) {
    if (link === undefined && holds > 1)
      yield [`tiers.${i}.link`, `expected the link between the ${holds} units it holds, got nothing`]
    if (link !== undefined && !Object.hasOwn(links, link))
      yield [
        `tiers.${i}.link`,
        `expected one of ${Object.keys(links).join(', ') || 'links, which is empty'}, got '${link}'`,
      ]
    if (spares && spares.count >= holds)
      yield [`tiers.${i}.spares.count`, `expected fewer than the ${holds} it holds, got ${spares.count}`]
  }
  for (const [name, { hops, bandwidth }] of Object.entries(links)) {
    if (!tiers.some((t) => t.link === name))
      yield [`links.${name}`, `expected a tier with this link, got none`]
    if (!hops.includes('nic')) continue
    if (!node.nics) yield [`links.${name}.hops`, `expected node.nics, as it goes through a nic, got none`]
    else if (bandwidth.value * node.devices > node.nics.count * node.nics.bandwidth.value * (1 + 1e-9))
      yield [
        `links.${name}.bandwidth.value`,
        `expected at most a device's share of the node's NICs, ${formatQuantity((node.nics.count * node.nics.bandwidth.value) / node.devices, 'bandwidth')}, got ${formatQuantity(bandwidth.value, 'bandwidth')}`,
      ]
  }
  const room = tiers.slice(2).reduce((product, t) => product * t.holds, 1)
  const least = tiers.length > 2 ? room - room / tiers.at(-1)!.holds + 1 : 1
  if (racks !== undefined && (racks > room || racks < least))
    yield ['racks', `expected ${least} to ${room}, which need every unit of the last tier, got ${racks}`]
  const devices = tiers.slice(0, 2).reduce((product, t) => product * t.holds, racks ?? room)
  if (devices > mostDevices) yield ['tiers', `expected at most ${mostDevices} devices in all, got ${devices}`]
}

/**
 * Reads a cluster file.
 *
 * @param file its name, for errors
 * @throws ExactmapError `invalid_config`: names the file, the field, what was expected and what came
 */
export const parseClusterFile = (source: Uint8Array, file: string): ClusterFile =>
  readYaml(source, file, clusterSchema, conflicts)
