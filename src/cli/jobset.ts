import { Command, InvalidArgumentError, Option } from 'commander'
import { stringify } from 'yaml'
import { type JobSetRequest, jobSet } from '../parallel/jobset.ts'
import { numberIn } from './options.ts'

/** `exactmap jobset`: a Kubernetes manifest that starts ranks. */
export function jobsetCommand(): Command {
  const whole = (flags: string, what: string, low: number, high: number): Option =>
    new Option(flags, what).argParser(numberIn(low, high, true))
  return new Command('jobset')
    .description('print a Kubernetes JobSet that starts ranks over several nodes')
    .argument('<command...>', 'what a rank runs, after --')
    .requiredOption('--image <image>', 'image with exactmap, its MPI addon, Open MPI, ssh and sshd')
    .addOption(whole('--nodes <n>', 'nodes, one worker each', 1, 100_000).makeOptionMandatory())
    .addOption(whole('--ranks-per-node <n>', 'ranks of a node', 1, 1024).default(1))
    .addOption(whole('--gpus-per-node <n>', 'NVIDIA GPUs of a node', 0, 1024).default(0))
    .option('--name <name>', 'of the JobSet', 'exactmap')
    .option('--secret <name>', 'secret with ssh-privatekey and ssh-publickey', 'exactmap-ssh')
    .addOption(
      new Option('--claim <claim:path>', 'volume claim that all ranks see, and where').argParser((text) => {
        const [, name, path] = /^([^:]+):(\/.*)$/.exec(text) ?? []
        if (!name || !path) throw new InvalidArgumentError(`expected claim:/path, got '${text}'.`)
        return { name, path }
      }),
    )
    .addHelpText(
      'after',
      `
exactmap jobset --image registry/exactmap --nodes 4 --ranks-per-node 8 --claim runs:/runs \\
  -- npx exactmap train /runs/train.yaml | kubectl apply -f -`,
    )
    .action((command: string[], o: Omit<JobSetRequest, 'command'>) => {
      process.stdout.write(stringify(jobSet({ ...o, command }), { lineWidth: 0 }))
    })
}
