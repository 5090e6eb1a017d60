import type { Cluster } from './cluster.ts'
import { formatQuantity, type QuantityKind } from './quantity.ts'

/** 12,345,678 */
export const whole = (n: number): string => n.toLocaleString('en-US')

/** Rows of a table, headings first, with one line for each tier. */
export const tierRows = (cluster: Cluster): string[][] => [
  ['tier', 'holds', 'devices', 'units', 'spares', 'link', 'each way', 'all at once', 'latency', 'hops'],
  ...cluster.tiers.map(({ name, holds, devices, units, spares, link }, level) => [
    name,
    `${whole(holds)} ${level === 0 ? 'device' : cluster.tiers[level - 1]!.name}${holds === 1 ? '' : 's'}`,
    whole(devices),
    whole(units),
    whole(spares),
    ...(link
      ? [
          link.name,
          formatQuantity(link.bandwidth, 'bandwidth'),
          formatQuantity(link.loaded, 'bandwidth'),
          formatQuantity(link.latency, 'time'),
          link.hops.join(' ') || 'none',
        ]
      : ['-', '-', '-', '-', '-']),
  ]),
]

/** Rows of a table, headings first: figures of one device or node, and of all. */
export function totalRows(cluster: Cluster): string[][] {
  const { device, node } = cluster.file
  const { memory, usable_memory: usable, bandwidth } = device
  const totals = cluster.totals()
  const row = (what: string, kind: QuantityKind, one: number, all: number): string[] => [
    what,
    formatQuantity(one, kind),
    formatQuantity(all, kind),
  ]
  return [
    ['', 'one', 'all'],
    row('device memory', 'bytes', memory.value, totals.memory),
    ...(usable ? [row('usable of it', 'bytes', usable.value, usable.value * cluster.devices)] : []),
    row('its bandwidth', 'bandwidth', bandwidth.value, totals.bandwidth),
    ...Object.entries(totals.flops).map(([type, all]) =>
      row(`${type}, dense`, 'flops', all / cluster.devices, all),
    ),
    row('host memory, by node', 'bytes', node.host_memory.value, totals.hostMemory),
  ]
}

/** A line for every figure and count with a source: field, source. */
export function sourceLines(value: unknown, field = ''): string[] {
  if (value === null || typeof value !== 'object') return []
  if ('source' in value) return [`${field}: ${value.source}`]
  return Object.entries(value).flatMap(([key, inner]) => sourceLines(inner, field ? `${field}.${key}` : key))
}
