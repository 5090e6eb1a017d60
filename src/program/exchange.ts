import { check, ExactmapError } from '../errors.ts'
import type { Exchange, Message, Program, Range } from './program.ts'

/** Own member number in each group of a program. */
export type Members = Readonly<Record<string, number>>

/**
 * The rank's number in each group of a program.
 *
 * @param groups the members' ranks, by member number
 * @throws ExactmapError `invalid_argument` for a group of another size or without this rank
 */
export function membersOf(
  program: Program,
  groups: Readonly<Record<string, readonly number[]>>,
  rank: number,
): Members {
  const members: Record<string, number> = {}
  for (const [group, size] of Object.entries(program.groups)) {
    const ranks = groups[group] ?? []
    const self = ranks.indexOf(rank)
    check(
      ranks.length === size && self >= 0,
      'invalid_argument',
      `group '${group}' of the program has ${size} members, this rank ${rank} among them; got ranks ${ranks.join(', ') || 'none'}`,
    )
    members[group] = self
  }
  return members
}

/** What an exchange copies within this rank: its k-th send to itself goes where its k-th receive from itself is. */
export function localCopies({ name, group, sends, receives }: Exchange, members: Members): [Range, Range][] {
  const self = memberOf(group, members, name)
  const own = (messages: readonly Message[]): Message[] => messages.filter((m) => m.peer === self)
  const [from, to] = [own(sends), own(receives)]
  check(
    from.length === to.length && from.every((range, i) => range.bytes === to[i]!.bytes),
    'invalid_program',
    () => `${name}: member ${self} of '${group}' sends itself ${from.length} ranges and takes ${to.length}`,
  )
  return from.map((range, i) => [range, to[i]!])
}

/** The messages of an exchange that go to or come from other ranks. */
export function remoteMessages(exchange: Exchange, members: Members): Pick<Exchange, 'sends' | 'receives'> {
  const self = memberOf(exchange.group, members, exchange.name)
  const others = (messages: readonly Message[]): Message[] => messages.filter((m) => m.peer !== self)
  return { sends: others(exchange.sends), receives: others(exchange.receives) }
}

function memberOf(group: string, members: Members, name: string): number {
  const self = members[group]
  check(
    self !== undefined,
    'invalid_argument',
    `${name} is an exchange in group '${group}': load the program as one rank of several (loadForRank)`,
  )
  return self
}

/**
 * Devices without messages of their own run the copies of an exchange that stands alone in its segment; what carries
 * the messages runs such segments between the others.
 *
 * @throws ExactmapError `unsupported` for an exchange among other steps
 */
export function requireStaged(program: Program): void {
  for (const { name, steps } of program.segments)
    if (steps.length > 1 && steps.some((s) => s.kind === 'exchange'))
      throw new ExactmapError(
        'unsupported',
        'the segment exchanges messages with other ranks: load the program with a communicator (loadForRank)',
        { program: program.name, segment: name },
      )
}
