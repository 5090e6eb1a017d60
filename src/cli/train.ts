import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { Command } from 'commander'
import { refuseIo } from '../formats/node_file.ts'
import { open } from '../open.ts'
import { parseTrainConfig } from '../train/config.ts'
import { runTraining } from '../train/run.ts'
import { backendOption, duration, grouped, ProgressLine } from './options.ts'

export function trainCommand(): Command {
  return new Command('train')
    .description(
      'train a model as a YAML file says; continues from the newest checkpoint in its output folder',
    )
    .argument('<config>', 'YAML file; docs/training.md lists every field')
    .option(
      '--allow-numeric-change',
      'resume although program, seed or data changed: the numbers will differ',
    )
    .addOption(backendOption('where it runs', 'auto'))
    .option('--driver <name>', 'auto, gpu, lavapipe or swiftshader')
    .option('--json', 'one JSON object a line instead of progress')
    .addHelpText('after', '\nCtrl-C saves a checkpoint and ends; a second Ctrl-C ends at once.')
    .action(async (path: string, o) => {
      const text = await readFile(path, 'utf8').catch((cause) => refuseIo(path, 'reading', cause))
      const config = parseTrainConfig(text, path)
      const device = await open(o.backend, o.driver ? { driver: o.driver } : {})
      const abort = new AbortController()
      const progress = new ProgressLine()
      const interrupt = (): void => {
        if (abort.signal.aborted) process.exit(130)
        abort.abort()
        progress.clear()
        process.stderr.write('saving a checkpoint after this step; Ctrl-C again ends without it\n')
      }
      process.on('SIGINT', interrupt)
      process.on('SIGTERM', interrupt)
      const say = (line: string): void => {
        progress.clear()
        process.stderr.write(`${line}\n`)
      }
      if (!o.json) say(`device   ${device.info.device}\ndriver   ${device.info.driver}`)
      const result = await runTraining(config, {
        device,
        base: dirname(resolve(path)),
        allowNumericChange: o.allowNumericChange ?? false,
        signal: abort.signal,
        ...(o.json ? {} : { onMessage: say }),
        onCompile: (done, total, kernel) => {
          if (!o.json) progress.show(`compiling ${kernel} ${Math.round((100 * done) / total)} %`)
        },
        onProgress: (p) => {
          if (o.json) process.stdout.write(`${JSON.stringify(p)}\n`)
          const line = `step ${p.step}/${p.steps}  loss ${p.trainLoss.toFixed(4)}  norm ${p.gradientNorm.toFixed(2)}  ${grouped(p.tokensPerSecond)} tokens/s  ${duration(p.secondsLeft)} left`
          if (p.validationLoss !== undefined && !o.json)
            say(
              `${line}  validation ${p.validationLoss.toFixed(4)} (${p.validationBitsPerByte!.toFixed(3)} bits per byte)`,
            )
          else if (!o.json) progress.show(line)
        },
      })
      progress.clear()
      if (o.json) process.stdout.write(`${JSON.stringify(result)}\n`)
      else if (result.finished)
        say(
          [
            `done: ${result.steps} steps`,
            ...(result.validationLoss === undefined
              ? []
              : [
                  `validation loss ${result.validationLoss.toFixed(4)}, ${result.validationBitsPerByte!.toFixed(4)} bits per byte`,
                ]),
            `model in ${result.output}`,
          ].join('\n'),
        )
      else say(`stopped at step ${result.steps}; run the same command to continue`)
      device.destroy()
      process.exitCode = result.finished ? 0 : 130
    })
}
