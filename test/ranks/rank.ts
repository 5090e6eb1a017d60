import { hostname } from 'node:os'
import { openRanks } from '../../backends/mpi/open.ts'
import { openMpi } from '../../backends/mpi/transport.ts'
import { ExactmapError } from '../../src/errors.ts'
import { agree } from '../../src/parallel/agreement.ts'
import { runAsRank } from '../../src/parallel/run_as_rank.ts'
import { checks } from './contract.ts'

// One rank of the tests beside this file: `mpirun -np 4 node rank.js <what> [argument]`.

const [what = '', argument = ''] = process.argv.slice(2)
const say = (text: string): void => void process.stdout.write(`${text}\n`)

try {
  // Pieces of a few bytes stand for messages of gigabytes.
  const transport = argument === 'pieces' ? await openMpi({ pieceBytes: 1000 }) : await openRanks()
  const { rank, size } = transport
  const chosen = Number(argument) === rank
  /** Waits for a message that never comes. */
  const wait = (): Promise<void> => transport.receive((rank + 1) % size, 0, new Uint8Array(1))
  /** Lets all ranks come here; then ends the chosen one somehow, and says when. */
  const end = async (how: () => void): Promise<void> => {
    await agree(transport, { size: `${size}` })
    say(`pid ${process.pid}`)
    if (!chosen) return wait()
    await new Promise((resolve) => setTimeout(resolve, 100))
    say(`end ${Date.now()}`)
    // After what was said has left the process.
    setTimeout(how, 50)
    return wait()
  }
  await runAsRank(transport, async () => {
    if (what === 'contract')
      for (const [name, check] of Object.entries(checks)) {
        await check(transport)
        say(`${rank}: ${name}`)
      }
    else if (what === 'start') say(`up ${Date.now()} ${transport.name}`)
    else if (what === 'agree')
      await agree(transport, { world: `${size}`, plan: chosen ? '1a2b' : '3c4d' }, { host: hostname() })
    else if (what === 'throw')
      await Promise.race([
        end(() => {}),
        new Promise((_, reject) => {
          if (chosen)
            setTimeout(
              () => reject(new ExactmapError('device_lost', 'the device of this rank is gone')),
              1000,
            )
        }),
      ])
    else if (what === 'kill') await end(() => process.kill(process.pid, 'SIGKILL'))
    else if (what === 'exit') await end(() => process.exit(3))
    else if (what === 'leave') await end(() => process.exit(0))
    else throw new ExactmapError('invalid_argument', `unknown: ${what}`)
  })
  process.exit(0)
} catch (error) {
  const { code, message } = error as ExactmapError
  process.stderr.write(`exactmap: ${code}: ${message}\n`)
  process.exit(1)
}
