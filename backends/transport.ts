import type { ExactmapError } from '../src/errors.ts'

/**
 * Messages between the ranks of a run, through host memory. Messages from one rank to another on one channel arrive in
 * the order they were sent; channels do not wait for each other.
 */
export interface Transport {
  /** Name for reports, e.g. `mpi (Open MPI 4.1.4)`. */
  readonly name: string
  /** This process among `size`, from 0. */
  readonly rank: number
  readonly size: number
  /** Resolves when `bytes` may be changed again, which may be before the message has arrived. */
  send(to: number, channel: number, bytes: Uint8Array): Promise<void>
  /**
   * Fills `into` with the next message of the channel. May be called ahead of its message, also several times over:
   * calls are served in their order.
   *
   * @throws ExactmapError `conflict` when the message has another length
   */
  receive(from: number, channel: number, into: Uint8Array): Promise<void>
  /** Waits for the other ranks to do the same, then leaves. Nothing can be sent afterwards. */
  close(): Promise<void>
  /** Ends every rank of the run at once, after saying why; does not return where ranks are processes. */
  abort(cause: ExactmapError): void
}

/** How a program's groups lie on the ranks of a run. */
export interface Communicator {
  readonly transport: Transport
  /** For every group a program names: its members' ranks, by member number. */
  readonly groups: Readonly<Record<string, readonly number[]>>
}
