import { writeSync } from 'node:fs'
import { check, ExactmapError } from '../../src/errors.ts'
import { CheckedTransport } from '../checked_transport.ts'
import type { Transport } from '../transport.ts'
import { loadMpi, type MpiAddon, mpiVersion } from './addon.ts'

interface Pending {
  readonly resolve: (bytes: number) => void
  readonly reject: (error: ExactmapError) => void
  /** Of a message: referenced while the addon has its address. */
  readonly bytes?: Uint8Array
}

/** How long a failure of MPI waits before it is told: mostly another rank has failed, and the launcher ends this one. */
const PATIENCE_MS = 2000

/** The addon's calls as promises. */
class Calls {
  private readonly pending = new Map<number, Pending>()
  private next = 0

  constructor(readonly addon: MpiAddon) {}

  make(start: (id: number) => void, bytes?: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      const id = this.next++
      this.pending.set(id, { resolve, reject, ...(bytes ? { bytes } : {}) })
      start(id)
    })
  }

  readonly finished = (id: number, bytes: number, failure: string | undefined): void => {
    const { resolve, reject } = this.pending.get(id)!
    this.pending.delete(id)
    if (failure === undefined) resolve(bytes)
    else setTimeout(() => reject(new ExactmapError('io', `MPI failed: ${failure}`)), PATIENCE_MS)
  }
}

class MpiTransport extends CheckedTransport {
  constructor(private readonly calls: Calls) {
    const { rank, size, channels } = calls.addon.world()
    super(`mpi (${mpiVersion(calls.addon)})`, rank, size, channels)
  }

  protected override async startSend(to: number, channel: number, bytes: Uint8Array): Promise<void> {
    await this.calls.make((id) => this.calls.addon.send(id, to, channel, bytes), bytes)
  }

  protected override startReceive(from: number, channel: number, into: Uint8Array): Promise<number> {
    return this.calls.make((id) => this.calls.addon.receive(id, from, channel, into), into)
  }

  protected override async leave(): Promise<void> {
    await this.calls.make((id) => this.calls.addon.close(id))
  }

  override abort(cause: ExactmapError): never {
    // Not through process.stderr, which may write later than the process ends.
    writeSync(2, `exactmap: rank ${this.rank}: ${cause.code}: ${cause.message}\n`)
    this.calls.addon.abort(1)
  }
}

let opened = false

/**
 * Starts MPI in this process and joins the ranks that were started with it; once in a process. Channels are MPI's tags.
 *
 * @param options.pieceBytes longer messages travel in pieces of this size, since MPI counts in 31 bits; the same on all
 *   ranks
 * @throws ExactmapError `not_found` where the addon is not built or MPI is missing
 */
export async function openMpi({ pieceBytes = 2 ** 30 } = {}): Promise<Transport> {
  check(!opened, 'conflict', 'MPI was already opened in this process: use the transport that openMpi gave')
  check(
    Number.isInteger(pieceBytes) && pieceBytes >= 1 && pieceBytes < 2 ** 31,
    'invalid_argument',
    `pieceBytes must be a whole number from 1 to ${2 ** 31 - 1}, got ${pieceBytes}`,
  )
  const addon = loadMpi()
  opened = true
  const calls = new Calls(addon)
  const started = calls.make((id) => addon.open(id, pieceBytes, calls.finished))
  // A thread that runs on while the process takes libmpi down would crash it.
  process.on('exit', () => addon.stop())
  await started
  return new MpiTransport(calls)
}
