import { InvalidArgumentError, Option } from 'commander'
import { activationFormats } from '../engine/activations.ts'
import { kvFormats } from '../kv_cache/layout.ts'
import { deviceNames } from '../open.ts'
import { weightFormats } from '../tensor/format.ts'

/** `--backend`: any name that `open` takes. */
export const backendOption = (what: string, fallback: string): Option =>
  new Option('--backend <name>', `${what}: ${deviceNames.join(', ')} or cuda:<number>`)
    .default(fallback)
    .argParser((name: string) => {
      if ((deviceNames as readonly string[]).includes(name) || /^cuda:\d{1,3}$/.test(name)) return name
      throw new InvalidArgumentError(`expected ${deviceNames.join(', ')} or cuda:<number>, got '${name}'.`)
    })

/** Commander parser for a number within bounds. */
export const numberIn =
  (low: number, high: number, whole = false) =>
  (text: string): number => {
    const value = Number(text)
    if (
      text.trim() === '' ||
      !Number.isFinite(value) ||
      value < low ||
      value > high ||
      (whole && !Number.isInteger(value))
    )
      throw new InvalidArgumentError(
        `expected a ${whole ? 'whole ' : ''}number from ${low} to ${high}, got '${text}'.`,
      )
    return value
  }

/** Commander parser for a length of time, `90`, `90s` or `2m`: seconds. */
export function secondsOf(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(s|m)?$/.exec(text) ?? []
  if (number === undefined)
    throw new InvalidArgumentError(`expected seconds or minutes, such as 90, 90s or 2m, got '${text}'.`)
  return Number(number) * (unit === 'm' ? 60 : 1)
}

/** `--context` */
export const contextOption = (): Option =>
  new Option(
    '-c, --context <n>',
    'longest sequence in tokens (default: the model’s, at most 2048)',
  ).argParser(numberIn(2, 1 << 24, true))

/** `--weights` */
export const weightsOption = (): Option =>
  new Option('--weights <format>', 'storage of weight matrices').choices(weightFormats).default('f16')

/** `--kv` */
export const kvOption = (): Option =>
  new Option('--kv <format>', 'storage of the KV cache').choices(kvFormats).default('f16')

/** `--activations` */
export const activationsOption = (): Option =>
  new Option('--activations <format>', 'what products, attention and gates read')
    .choices(activationFormats)
    .default('f32')

/** `--whole-step` */
export const wholeStepOption = (): Option =>
  new Option(
    '--whole-step',
    'CUDA: decode steps as one kernel where gaps between launches are predicted to matter',
  )

/** A line on stderr that is redrawn in place on a terminal, and only now and then in a log. */
export class ProgressLine {
  private last = 0
  private drawn = false

  /** Shows `text`; at most ten times a second on a terminal, every ten seconds elsewhere. */
  show(text: string, force = false): void {
    const now = Date.now()
    if (!force && now - this.last < (process.stderr.isTTY ? 100 : 10_000)) return
    this.last = now
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`)
    else process.stderr.write(`${text}\n`)
    this.drawn = true
  }

  /** Removes the line from a terminal. */
  clear(): void {
    if (this.drawn && process.stderr.isTTY) process.stderr.write('\r\x1b[K')
    this.drawn = false
  }
}

/** 12,345,678 */
export const grouped = (n: number): string => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ',')

/** 1 h 02 min, 3 min 20 s, 12 s */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds))
  if (s >= 3600)
    return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, '0')} min`
  return s >= 60 ? `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s` : `${s} s`
}
