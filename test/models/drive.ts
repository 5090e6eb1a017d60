import { expect } from 'vitest'
import type { Device, Executable, LoadOptions } from '../../backends/backend.ts'
import {
  type InferenceSpec,
  inferenceGraph,
  pagesOf,
  segmentOfPrefill,
} from '../../src/engine/inference_graph.ts'
import { communicatorOf, firstIdOf, type InferenceRank, wholeModel } from '../../src/engine/ranks.ts'
import { samplingRow } from '../../src/engine/sampling.ts'
import { openModelFolder } from '../../src/formats/model_folder.ts'
import { familyOf } from '../../src/models/index.ts'
import { writeWeights } from '../../src/models/weights.ts'
import { loadForRank } from '../../src/parallel/load_for_rank.ts'
import { compile } from '../../src/program/compile.ts'

const NONE = 0xffffffff

export interface Step {
  /** The greedy choice of the program. */
  readonly token: number
  readonly logits: Float32Array
}

/** Compiles and loads the inference program of a folder and fills in its weights; of several ranks the one given. */
export async function loadInference(
  device: Device,
  folder: string,
  spec: InferenceSpec,
  rank?: InferenceRank,
  options: LoadOptions = {},
): Promise<Executable> {
  const source = await openModelFolder(folder)
  const family = familyOf(source.config)
  const config = family.parse(source.config)
  const program = compile(inferenceGraph('tiny', family, config, spec, rank), device.target)
  const executable = rank
    ? await loadForRank(device, program, { ...options, communicator: communicatorOf(rank) })
    : await device.load(program, options)
  const { plan } = executable.arenas.weights!
  const { grid, place } = rank ?? wholeModel
  await writeWeights(
    family.parameters(config).filter(({ name }) => !rank || plan.tensors.some((t) => t.name === name)),
    source.weights,
    plan,
    (offset, bytes) => executable.arenas.weights!.write(offset, bytes),
    undefined,
    { size: grid.tensor, member: place.tensor },
  )
  await source.close()
  return executable
}

/**
 * Drives an inference program by hand, greedily: several sequences at once and prompts in any pieces, which the
 * Generator does not do. Sequence b is row b of the tables. Pages are dealt from the last down, so that
 * a kernel that ignores the page table does not pass. A rank that does not sample has no steps to tell of.
 */
export class Driver {
  private readonly pageTable: Uint32Array
  private readonly options: Float32Array

  constructor(
    private readonly executable: Executable,
    private readonly spec: InferenceSpec,
    private readonly many?: { readonly rank: InferenceRank; readonly vocab: number },
  ) {
    const pages = pagesOf(spec)
    this.pageTable = Uint32Array.from({ length: pages }, (_, i) => pages - 1 - i)
    this.options = Float32Array.from(
      { length: spec.batch * 8 },
      (_, i) => samplingRow({ temperature: 0 })[i % 8]!,
    )
  }

  /** Feeds a prompt to sequence `b` in pieces of the given lengths; the last one's logits and choice. */
  async prefill(
    b: number,
    prompt: readonly number[],
    pieces: readonly number[] = [prompt.length],
  ): Promise<Step> {
    let step: Step | undefined
    let start = 0
    for (const count of pieces) {
      const rows = this.spec.prefill.find((bucket) => bucket >= count)!
      const place = (value: (i: number) => number, rest: number): Uint32Array =>
        Uint32Array.from({ length: rows }, (_, i) => (i < count ? value(start + i) : rest))
      const inputs = {
        [`ids_${rows}`]: place((i) => prompt[i]!, 0),
        [`sequence_${rows}`]: place(() => b, NONE),
        [`position_${rows}`]: place((i) => i, 0),
        rows: new Uint32Array(this.spec.batch).fill(count - 1),
      }
      start += count
      const isLast = start === prompt.length
      step = (await this.run(segmentOfPrefill(rows), inputs, new Map([[b, start]]), isLast))[b]
    }
    return step!
  }

  /** One decode step: sequence b reads its token at position `at.get(b)`; sequences that are not named rest. */
  async decode(at: ReadonlyMap<number, number>): Promise<(Step | undefined)[]> {
    const sequence = new Uint32Array(this.spec.batch).fill(NONE)
    const position = new Uint32Array(this.spec.batch)
    for (const [b, where] of at) {
      sequence[b] = b
      position[b] = where
    }
    const ends = new Map([...at].map(([b, where]) => [b, where + 1]))
    return this.run('decode', { sequence, position }, ends, true)
  }

  /** A prompt and `count` greedy tokens after it: logits after the prompt and after each token but the last. */
  async greedy(prompt: readonly number[], count: number, pieces?: readonly number[]): Promise<Step[]> {
    const steps = [await this.prefill(0, prompt, pieces)]
    while (steps.length < count)
      steps.push((await this.decode(new Map([[0, prompt.length + steps.length - 1]])))[0]!)
    return steps
  }

  private async run(
    segment: string,
    inputs: Record<string, ArrayBufferView>,
    ends: ReadonlyMap<number, number>,
    sampled: boolean,
  ): Promise<(Step | undefined)[]> {
    const { batch, context } = this.spec
    const length = new Uint32Array(batch)
    const [toSequence, toPosition] = [new Uint32Array(batch).fill(NONE), new Uint32Array(batch)]
    for (const [b, end] of ends) {
      length[b] = end
      if (!sampled || end >= context) continue
      toSequence[b] = b
      toPosition[b] = end
    }
    const given: Record<string, ArrayBufferView> = {
      ...inputs,
      first_id: Uint32Array.of(this.many ? firstIdOf(this.many.rank, this.many.vocab) : 0),
      page_table: this.pageTable,
      length,
      options: this.options,
      key: new Uint32Array(batch * 4),
      sampled_sequence: toSequence,
      sampled_position: toPosition,
    }
    const { inputs: declared } = this.executable.program.segments.find(({ name }) => name === segment)!
    const { token, logits } = await this.executable.step(
      segment,
      Object.fromEntries(declared.map(({ name }) => [name, given[name]!])),
    )
    if (!token) return []
    const tokens = new Uint32Array(token!.slice().buffer)
    const all = new Float32Array(logits!.slice().buffer)
    const vocab = all.length / batch
    return Array.from({ length: batch }, (_, b) =>
      ends.has(b) ? { token: tokens[b]!, logits: all.slice(b * vocab, (b + 1) * vocab) } : undefined,
    )
  }
}

/**
 * Compares greedy tokens up to the first step whose two best logits in `want` are closer than twice the budget (relative
 * to the largest logit); such a near tie is reported. Returns the number of equal steps.
 */
export function sameTokens(
  what: string,
  got: readonly Step[],
  want: readonly Step[],
  budget: number,
): number {
  for (const [i, { token, logits }] of want.entries()) {
    const [first, second] = [...logits].sort((a, b) => b - a) as [number, number]
    if (first - second < 2 * budget * Math.max(...logits.map(Math.abs))) {
      console.log(`${what}: step ${i} is a near tie (${first}, ${second}); tokens are compared up to it`)
      return i
    }
    expect(got[i]!.token, `${what}: step ${i}`).toBe(token)
  }
  return want.length
}
