import { escapeXml } from '../formats/xml.ts'

/** One line of the loss curve. */
export interface CurvePoint {
  readonly step: number
  readonly tokens: number
  readonly seconds: number
  readonly learningRate: number
  readonly trainLoss: number
  readonly gradientNorm: number
  readonly validationLoss?: number
  readonly validationBitsPerByte?: number
}

const header =
  'step,tokens,seconds,learning_rate,train_loss,gradient_norm,validation_loss,validation_bits_per_byte'

export const curveHeader = (): string => `${header}\n`

export const curveLine = (p: CurvePoint): string =>
  `${[p.step, p.tokens, p.seconds.toFixed(2), p.learningRate.toPrecision(5), p.trainLoss.toFixed(5), p.gradientNorm.toFixed(4), p.validationLoss?.toFixed(5) ?? '', p.validationBitsPerByte?.toFixed(4) ?? ''].join(',')}\n`

/** Points of a curve file; lines after step `until` (from an interrupted run) are left out. */
export function parseCurve(text: string, until = Number.POSITIVE_INFINITY): CurvePoint[] {
  return text
    .split('\n')
    .slice(1)
    .filter((line) => line.length > 0)
    .map((line) => line.split(','))
    .map(([step, tokens, seconds, learningRate, trainLoss, gradientNorm, validationLoss, bits]) => ({
      step: Number(step),
      tokens: Number(tokens),
      seconds: Number(seconds),
      learningRate: Number(learningRate),
      trainLoss: Number(trainLoss),
      gradientNorm: Number(gradientNorm),
      ...(validationLoss ? { validationLoss: Number(validationLoss) } : {}),
      ...(bits ? { validationBitsPerByte: Number(bits) } : {}),
    }))
    .filter((p) => Number.isFinite(p.step) && p.step <= until)
}

/** The curve as a picture: training loss (thin) and validation loss (dots and line) over steps. */
export function curveSvg(points: readonly CurvePoint[], title: string): string {
  const [width, height, left, bottom, top, right] = [720, 400, 56, 40, 36, 16]
  const losses = points
    .flatMap((p) => [p.trainLoss, ...(p.validationLoss === undefined ? [] : [p.validationLoss])])
    .filter(Number.isFinite)
  const low = Math.floor(Math.min(...losses, Number.MAX_VALUE) * 2) / 2
  const high = Math.max(low + 0.5, Math.ceil(Math.max(...losses, low) * 2) / 2)
  const last = Math.max(1, points.at(-1)?.step ?? 1)
  const x = (step: number): string => (left + ((width - left - right) * step) / last).toFixed(1)
  const y = (loss: number): string =>
    (top + ((height - top - bottom) * (high - loss)) / (high - low)).toFixed(1)
  const stride = Math.max(1, Math.floor(points.length / 600))
  const train = points.filter((_, i) => i % stride === 0).map((p) => `${x(p.step)},${y(p.trainLoss)}`)
  const validation = points.filter((p) => p.validationLoss !== undefined)
  const ticks = Array.from({ length: Math.round((high - low) / 0.5) + 1 }, (_, i) => low + 0.5 * i)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    '<rect width="100%" height="100%" fill="#ffffff"/>',
    `<text x="${left}" y="20" font-size="14">${escapeXml(title)}</text>`,
    ...ticks.map(
      (t) =>
        `<path d="M${left} ${y(t)}H${width - right}" stroke="#e0e0e0"/><text x="${left - 8}" y="${y(t)}" text-anchor="end" dy="4">${t.toFixed(1)}</text>`,
    ),
    ...[0, 0.25, 0.5, 0.75, 1].map(
      (f) =>
        `<text x="${x(f * last)}" y="${height - bottom + 18}" text-anchor="middle">${Math.round(f * last)}</text>`,
    ),
    `<text x="${width / 2}" y="${height - 6}" text-anchor="middle">step</text>`,
    `<polyline points="${train.join(' ')}" fill="none" stroke="#9bb7d4"/>`,
    `<polyline points="${validation.map((p) => `${x(p.step)},${y(p.validationLoss!)}`).join(' ')}" fill="none" stroke="#c0392b" stroke-width="2"/>`,
    `<text x="${width - right - 8}" y="${top + 14}" text-anchor="end" fill="#5b84b1">training loss</text>`,
    `<text x="${width - right - 8}" y="${top + 30}" text-anchor="end" fill="#c0392b">validation loss</text>`,
    '</svg>\n',
  ].join('\n')
}
