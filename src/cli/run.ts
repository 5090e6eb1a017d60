import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { packageRoot } from '../../backends/package_root.ts'
import { loadModel } from '../engine/load.ts'
import { decodeSession, encodeSession, type Session } from '../engine/session.ts'
import { ExactmapError } from '../errors.ts'
import { refuseIo, writeFileAtomic } from '../formats/node_file.ts'
import { open } from '../open.ts'
import {
  backendOption,
  contextOption,
  grouped,
  kvOption,
  numberIn,
  ProgressLine,
  weightsOption,
} from './options.ts'

/** Folder of the model that comes with the package. */
export const bundledModel = (): string => join(packageRoot(), 'assets', 'shakespeare')

export const examplePrompt = 'ROMEO:\n'

export function runCommand(): Command {
  return new Command('run')
    .description('continue a prompt with a model, as text on stdout; figures follow on stderr')
    .argument('[model]', 'a Hugging Face model folder (default: the model that comes with exactmap)')
    .option(
      '-p, --prompt <text>',
      `text to continue (default for the bundled model: ${JSON.stringify(examplePrompt)})`,
    )
    .addOption(
      new Option('-n, --max-tokens <n>', 'new tokens at most')
        .default(200)
        .argParser(numberIn(1, 1 << 24, true)),
    )
    .addOption(
      new Option('-t, --temperature <x>', '0: always the most probable token')
        .default(0.8)
        .argParser(numberIn(0, 100)),
    )
    .addOption(
      new Option('--top-k <k>', 'sample from the k most probable; 0: off')
        .default(0)
        .argParser(numberIn(0, 2 ** 24, true)),
    )
    .addOption(
      new Option('--top-p <p>', 'sample from the smallest set reaching p; 1: off')
        .default(0.95)
        .argParser(numberIn(0.0001, 1)),
    )
    .addOption(
      new Option('--min-p <p>', 'drop tokens below p times the best; 0: off')
        .default(0)
        .argParser(numberIn(0, 1)),
    )
    .addOption(new Option('--repetition-penalty <x>', '1: off').default(1).argParser(numberIn(0.01, 100)))
    .addOption(
      new Option('-s, --seed <n>', 'seed of the sampling')
        .default(1)
        .argParser(numberIn(0, Number.MAX_SAFE_INTEGER, true)),
    )
    .addOption(contextOption())
    .addOption(weightsOption())
    .addOption(kvOption())
    .addOption(backendOption('where it runs', 'auto'))
    .option('--driver <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--save <file>', 'write the session (tokens and KV cache) when the text ends')
    .option('--resume <file>', 'go on with a saved session, of this or another backend, instead of a prompt')
    .option('--json', 'print one JSON object at the end instead of streaming text')
    .action(async (path: string | undefined, o) => {
      const started = performance.now()
      const progress = new ProgressLine()
      const device = await open(o.backend, o.driver ? { driver: o.driver } : {})
      if (o.resume && o.prompt !== undefined)
        throw new ExactmapError('invalid_argument', '--resume goes on with its own text; leave out --prompt')
      const session = o.resume ? await readSession(o.resume) : undefined
      const prompt: string = session ? '' : (o.prompt ?? (path === undefined ? examplePrompt : ''))
      const model = await loadModel(path ?? bundledModel(), {
        device,
        prompt,
        ...(o.context === undefined ? {} : { context: o.context }),
        weights: o.weights,
        kv: o.kv,
        onProgress: (what, done, total) => progress.show(`${what} ${Math.round((100 * done) / total)} %`),
      })
      progress.clear()
      const { temperature, topK, topP, minP, repetitionPenalty, seed, maxTokens } = o
      const promptTokens = session ? session.tokens.length : model.tokenizer.encode(prompt).length
      const times: number[] = []
      let text = ''
      if (!o.json) process.stdout.write(prompt)
      const options = {
        temperature,
        topK,
        topP,
        minP,
        repetitionPenalty,
        seed,
        maxTokens,
        onToken: () => times.push(performance.now()),
      }
      const stream = session ? model.resume(session, options) : model.generate(prompt, options)
      for await (const piece of stream) {
        text += piece
        if (!o.json) process.stdout.write(piece)
      }
      if (o.save) await writeFileAtomic(o.save, [encodeSession(await model.generator.session())])
      const seconds = times.length > 1 ? (times.at(-1)! - times[0]!) / 1000 : 0
      const report = {
        device: device.info.device,
        driver: device.info.driver,
        backend: device.info.backend,
        promptTokens,
        tokens: times.length,
        firstTokenSeconds: times.length > 0 ? (times[0]! - started) / 1000 : null,
        tokensPerSecond: seconds > 0 ? (times.length - 1) / seconds : null,
        arenas: Object.fromEntries(model.program.arenas.map((a) => [a.kind, a.bytes])),
        totalBytes: model.program.arenas.reduce((sum, a) => sum + a.bytes, 0),
      }
      if (o.json) process.stdout.write(`${JSON.stringify({ prompt, text, ...report })}\n`)
      else {
        process.stdout.write('\n')
        const lines = [
          '',
          `${report.tokens} tokens, ${report.tokensPerSecond?.toFixed(1) ?? '-'} tokens/s, first token after ${report.firstTokenSeconds?.toFixed(2) ?? '-'} s (opening, compiling and loading included)`,
          `device   ${report.device}`,
          `driver   ${report.driver}`,
          ...Object.entries(report.arenas).map(
            ([kind, bytes]) => `${kind.padEnd(12)} ${grouped(bytes).padStart(14)} bytes`,
          ),
          `${'total'.padEnd(12)} ${grouped(report.totalBytes).padStart(14)} bytes`,
        ]
        process.stderr.write(`${lines.join('\n')}\n`)
      }
      await model.destroy()
      device.destroy()
    })
}

async function readSession(file: string): Promise<Session> {
  const bytes = await readFile(file).catch((cause) => refuseIo(file, 'reading', cause))
  return decodeSession(bytes, file)
}
