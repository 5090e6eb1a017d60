#!/usr/bin/env node
import { Command, CommanderError } from 'commander'
import { ExactmapError } from '../errors.ts'
import { version } from '../version.ts'

/** In the order of the help text. Each is loaded when it is asked for: start-up waits for no other's modules. */
const commands: Readonly<Record<string, () => Promise<() => Command>>> = {
  run: async () => (await import('./run.ts')).runCommand,
  train: async () => (await import('./train.ts')).trainCommand,
  verify: async () => (await import('./verify.ts')).verifyCommand,
  inspect: async () => (await import('./inspect.ts')).inspectCommand,
  cluster: async () => (await import('./cluster.ts')).clusterCommand,
  diff: async () => (await import('./diff.ts')).diffCommand,
  profile: async () => (await import('./profile.ts')).profileCommand,
  tune: async () => (await import('./tune.ts')).tuneCommand,
  doctor: async () => (await import('./doctor.ts')).doctorCommand,
  build: async () => (await import('./build.ts')).buildCommand,
  export: async () => (await import('./export.ts')).exportCommand,
  schedule: async () => (await import('./schedule.ts')).scheduleCommand,
  jobset: async () => (await import('./jobset.ts')).jobsetCommand,
}

/** The command of that name; all of them where it is none, for the help text and for errors. */
async function commandsFor(name: string | undefined): Promise<Command[]> {
  const load =
    name !== undefined && Object.hasOwn(commands, name) ? [commands[name]!] : Object.values(commands)
  return Promise.all(load.map(async (one) => (await one())()))
}

const program = new Command('exactmap')
  .description('Ahead-of-time compiled runtime for language models on WebGPU and CUDA')
  .version(version)
  .showHelpAfterError('(exactmap --help lists the commands)')
  .exitOverride()
for (const command of await commandsFor(process.argv[2])) program.addCommand(command.exitOverride())

// A closed pipe (`exactmap run | head`) is a normal end.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

try {
  await program.parseAsync()
  // Devices keep the event loop alive; the work is done.
  process.exit(process.exitCode ?? 0)
} catch (error) {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2)
  if (!(error instanceof ExactmapError)) throw error
  process.stderr.write(`exactmap: ${error.code}: ${error.message}\n`)
  process.exit(error.code === 'invalid_argument' ? 2 : 1)
}
