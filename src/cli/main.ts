#!/usr/bin/env node
import { Command, CommanderError } from 'commander'
import { ExactmapError } from '../errors.ts'
import { version } from '../version.ts'
import { buildCommand } from './build.ts'
import { clusterCommand } from './cluster.ts'
import { diffCommand } from './diff.ts'
import { doctorCommand } from './doctor.ts'
import { exportCommand } from './export.ts'
import { inspectCommand } from './inspect.ts'
import { jobsetCommand } from './jobset.ts'
import { profileCommand } from './profile.ts'
import { runCommand } from './run.ts'
import { scheduleCommand } from './schedule.ts'
import { trainCommand } from './train.ts'
import { tuneCommand } from './tune.ts'
import { verifyCommand } from './verify.ts'

const program = new Command('exactmap')
  .description('Ahead-of-time compiled runtime for language models on WebGPU and CUDA')
  .version(version)
  .showHelpAfterError('(exactmap --help lists the commands)')
  .exitOverride()
for (const command of [
  runCommand(),
  trainCommand(),
  verifyCommand(),
  inspectCommand(),
  clusterCommand(),
  diffCommand(),
  profileCommand(),
  tuneCommand(),
  doctorCommand(),
  buildCommand(),
  exportCommand(),
  scheduleCommand(),
  jobsetCommand(),
])
  program.addCommand(command.exitOverride())

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
