import type { Target } from '../../backends/backend.ts'
import { ExactmapError } from '../errors.ts'
import { constantType } from '../ops/constants.ts'
import { checkCall, opContract } from '../ops/index.ts'
import { byteSize, showType, type TensorType } from '../tensor/type.ts'
import { sameChannel, usesOfStep } from './dependencies.ts'
import type { ArenaPlan, Exchange, Launch, Program, Range, Segment, Step, TensorPlan } from './program.ts'

/**
 * Checks every rule a program must keep, against the limits of the target it will run on:
 * ranges inside arenas and inside one buffer, aligned; bindings of a launch disjoint (on CUDA those that are written,
 * but for two of one range), few and small enough; grids within limits; hazards covered by dependencies; in-place and
 * scratch rules; tensors whose lives overlap don't share bytes; a value is written before it is read.
 * Throws `invalid_program` with the place.
 */
export function verifyProgram(program: Program, target: Target): void {
  const place = { program: program.name }
  const fail: Fail = (message, more = {}) => {
    throw new ExactmapError('invalid_program', message, { ...place, ...more })
  }
  if (program.format !== 'exactmap-program' || program.version !== 1)
    fail(
      `expected an exactmap program of version 1, got format '${program.format}' version ${program.version}`,
    )
  if (program.target.backend !== target.backend)
    fail(
      `the program was compiled for backend '${program.target.backend}', the device is '${target.backend}'`,
    )
  if (!(Number.isSafeInteger(program.slots) && program.slots > 0))
    fail(`slots must be positive, got ${program.slots}`)
  const arenas = new Map(program.arenas.map((a) => [a.kind, a]))
  if (arenas.size !== program.arenas.length) fail('an arena kind appears twice')
  for (const [group, size] of Object.entries(program.groups))
    if (!(Number.isSafeInteger(size) && size > 0)) fail(`group '${group}' has ${size} members`)
  for (const arena of program.arenas) verifyArena(arena, program, target, fail)

  const inside = (range: Range, what: string, more: object): void => {
    const arena =
      arenas.get(range.arena) ??
      fail(`${what} lies in arena '${range.arena}', which the program does not have`, more)
    const limit = arena.slotBytes || arena.bytes
    if (
      !(
        Number.isSafeInteger(range.offset) &&
        Number.isSafeInteger(range.bytes) &&
        range.offset >= 0 &&
        range.bytes > 0
      )
    )
      fail(`${what} has offset ${range.offset} and ${range.bytes} bytes`, more)
    if (range.offset + range.bytes > limit)
      fail(`${what} ends at ${range.offset + range.bytes}, arena '${range.arena}' at ${limit}`, more)
    const buffer = arena.buffers[0] ?? 0
    if (Math.floor(range.offset / buffer) !== Math.floor((range.offset + range.bytes - 1) / buffer))
      fail(`${what} crosses a buffer boundary of arena '${range.arena}'`, more)
  }

  for (const segment of program.segments) {
    const more = { segment: segment.name }
    for (const io of [...segment.inputs, ...segment.outputs]) {
      inside(io, `'${io.name}'`, more)
      if (byteSize(io.type) !== io.bytes)
        fail(`'${io.name}' has ${io.bytes} bytes, its type needs ${byteSize(io.type)}`, more)
    }
    for (const input of segment.inputs)
      if (input.arena !== 'step_input') fail(`input '${input.name}' lies in arena '${input.arena}'`, more)
    segment.steps.forEach((step, i) => {
      const at = { ...more, launch: step.name }
      if (step.index !== i) fail(`step ${i} says it is ${step.index}`, at)
      if (step.after.some((j) => !Number.isSafeInteger(j) || j < 0 || j >= i))
        fail(`step waits for ${step.after}, not an earlier step`, at)
      for (const use of usesOfStep(step)) inside(use, 'a range', at)
      if (step.kind === 'launch')
        for (const [port, operand] of Object.entries({ ...step.call.inputs, ...step.call.outputs })) {
          inside(operand, `operand '${port}'`, at)
          if (byteSize(operand.type) !== operand.bytes)
            fail(`operand '${port}' has ${operand.bytes} bytes, its type needs ${byteSize(operand.type)}`, at)
        }
      if (step.kind === 'launch') verifyLaunch(step, program, target, fail, at)
      else if (step.kind === 'exchange') verifyExchange(step, program, fail, at)
      else if (step.from.bytes !== step.to.bytes)
        fail(`transfer from ${step.from.bytes} to ${step.to.bytes} bytes`, at)
    })
    verifyHazards(segment, fail)
  }
  verifyValues(program, fail)
}

/** Channels of a group: a transport numbers them together with the groups. */
export const MAX_CHANNELS = 1024

type Fail = (message: string, more?: object) => never

function verifyArena(arena: ArenaPlan, program: Program, target: Target, fail: Fail): void {
  const name = `arena '${arena.kind}'`
  if (arena.buffers.reduce((a, b) => a + b, 0) !== arena.bytes)
    fail(`${name}: its buffers don't add up to ${arena.bytes} bytes`)
  if (arena.buffers.some((b) => b > target.limits.maxBufferSize))
    fail(`${name} has a buffer larger than ${target.limits.maxBufferSize}`)
  if (arena.slotBytes && arena.slotBytes * program.slots !== arena.bytes)
    fail(`${name}: ${program.slots} slots of ${arena.slotBytes} are not ${arena.bytes}`)
  const slots = arena.slotBytes ? program.slots : 1
  const perSlot = arena.buffers.length / slots
  const isLast = (i: number): boolean => (i + 1) % perSlot === 0
  const size = arena.buffers[0] ?? 0
  if (arena.buffers.some((b, i) => (isLast(i) ? b > size : b !== size)))
    fail(`${name}: only the last buffer of a slot may be smaller than the first`)
  const limit = arena.slotBytes || arena.bytes
  const sorted = [...arena.tensors].sort((a, b) => a.offset - b.offset)
  for (const tensor of sorted) {
    if (tensor.bytes !== byteSize(tensor.type))
      fail(`${name}: ${tensor.name} has ${tensor.bytes} bytes, its type needs ${byteSize(tensor.type)}`)
    if (tensor.offset % target.limits.bindingAlignment !== 0)
      fail(
        `${name}: ${tensor.name} starts at ${tensor.offset}, not aligned to ${target.limits.bindingAlignment}`,
      )
    if (tensor.offset < 0 || tensor.offset + tensor.bytes > limit)
      fail(`${name}: ${tensor.name} leaves the arena`)
    if (arena.kind === 'activations' && !tensor.live) fail(`${name}: ${tensor.name} has no lifetime`)
    if (arena.kind === 'constants') verifyConstant(tensor, fail)
  }
  for (let i = 0; i < sorted.length; i++)
    for (let j = i + 1; j < sorted.length && sorted[j]!.offset < sorted[i]!.offset + sorted[i]!.bytes; j++) {
      const [a, b] = [sorted[i]!, sorted[j]!]
      const apart = a.live && b.live && (a.live[1] < b.live[0] || b.live[1] < a.live[0])
      if (!apart) fail(`${name}: ${a.name} and ${b.name} share bytes while both are alive`)
    }
}

function verifyConstant({ name, type, generator }: TensorPlan, fail: Fail): void {
  const recipe = generator ?? fail(`constant ${name} has no generator`)
  const made = refusing(() => constantType(recipe.name, recipe.attrs), fail, {})
  if (showType(made) !== showType(type))
    fail(`constant ${name} is ${showType(type)}, its generator makes ${showType(made)}`)
}

/** Runs a check that throws errors of its own; they become the program's. */
function refusing<T>(body: () => T, fail: Fail, at: object): T {
  try {
    return body()
  } catch (error) {
    if (error instanceof ExactmapError) return fail(error.message, at)
    throw error
  }
}

/** The op's contract must accept attributes and inputs and give these very outputs. */
function verifyCall({ call }: Launch, fail: Fail, at: object): void {
  const types = (operands: Launch['call']['inputs']): Record<string, TensorType> =>
    Object.fromEntries(Object.entries(operands).map(([port, { type }]) => [port, type]))
  const { outputs } = refusing(() => checkCall(opContract(call.op), call.attrs, types(call.inputs)), fail, at)
  const show = (all: Readonly<Record<string, TensorType>>): string =>
    Object.entries(all)
      .map(([port, type]) => `${port} ${showType(type)}`)
      .sort()
      .join(', ')
  const [want, got] = [show(outputs), show(types(call.outputs))]
  if (want !== got) fail(`${call.op} gives ${want}, the program says ${got}`, at)
}

function verifyLaunch(launch: Launch, program: Program, target: Target, fail: Fail, at: object): void {
  const { limits } = target
  const kernel =
    program.kernels[launch.kernel] ?? fail(`kernel ${launch.kernel} of ${program.kernels.length}`, at)
  const where = { ...at, kernel: kernel.name }
  if (launch.bindings.length > limits.maxBindings)
    fail(`${launch.bindings.length} bindings, the target allows ${limits.maxBindings}`, where)
  for (const binding of launch.bindings) {
    if (binding.offset % limits.bindingAlignment !== 0)
      fail(`a binding at ${binding.offset} is not aligned to ${limits.bindingAlignment}`, where)
    if (binding.bytes > limits.maxBindingSize)
      fail(`a binding of ${binding.bytes} bytes, the target allows ${limits.maxBindingSize}`, where)
  }
  const { bindings } = launch
  for (let i = 0; i < bindings.length; i++)
    for (let j = i + 1; j < bindings.length; j++) {
      const [a, b] = [bindings[i]!, bindings[j]!]
      // Where a kernel reads a tensor through a tensor map and by address, or writes one so.
      const alike = a.access === b.access && (a.access === 'read' || sameRange(a, b))
      if (target.backend === 'cuda' && alike) continue
      if (a.arena === b.arena && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes)
        fail(`bindings ${i} and ${j} overlap in arena '${a.arena}'`, where)
    }
  if (launch.workgroups.some((n) => !Number.isSafeInteger(n) || n < 1 || n > limits.maxWorkgroups))
    fail(`grid ${launch.workgroups.join(' x ')}, each dimension must be 1 to ${limits.maxWorkgroups}`, where)
  verifyCall(launch, fail, where)
  const contract = opContract(launch.call.op)
  for (const [out, over] of Object.entries(contract.inPlace ?? {})) {
    const [o, i] = [launch.call.outputs[out], launch.call.inputs[over]]
    if (o && i && (o.arena !== i.arena || o.offset !== i.offset))
      fail(`in-place output '${out}' is not where '${over}' is`, where)
  }
}

const sameRange = (a: Range, b: Range): boolean =>
  a.arena === b.arena && a.offset === b.offset && a.bytes === b.bytes

/** Messages stay inside their group, and no two ranges that one of them writes overlap. */
function verifyExchange(exchange: Exchange, program: Program, fail: Fail, at: object): void {
  const { group, channel, sends, receives } = exchange
  const size = Object.hasOwn(program.groups, group)
    ? program.groups[group]!
    : fail(`an exchange in group '${group}', which the program does not have`, at)
  if (channel >= MAX_CHANNELS) fail(`channel ${channel}, there are ${MAX_CHANNELS}`, at)
  if (sends.length + receives.length === 0) fail('an exchange without messages', at)
  for (const { peer } of [...sends, ...receives])
    if (peer >= size) fail(`a message with member ${peer} of group '${group}', which has ${size}`, at)
  const all = [...receives, ...sends]
  for (let i = 0; i < receives.length; i++)
    for (let j = i + 1; j < all.length; j++) {
      const [a, b] = [all[i]!, all[j]!]
      if (a.arena === b.arena && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes)
        fail(`what is received from member ${a.peer} overlaps another message in arena '${a.arena}'`, at)
    }
}

/** Every pair of conflicting steps must be ordered by the dependencies, directly or through others. */
function verifyHazards(segment: Segment, fail: Fail): void {
  const { steps } = segment
  const words = Math.ceil(steps.length / 32)
  const reach = steps.map(() => new Uint32Array(words))
  const uses = steps.map(usesOfStep)
  steps.forEach((step: Step, i) => {
    for (const j of step.after) {
      reach[i]![j >> 5]! |= 1 << (j & 31)
      for (let w = 0; w < words; w++) reach[i]![w]! |= reach[j]![w]!
    }
    for (let j = 0; j < i; j++) {
      if ((reach[i]![j >> 5]! >>> (j & 31)) & 1) continue
      const clash = uses[i]!.some((x) =>
        uses[j]!.some(
          (y) =>
            (x.writes || y.writes) &&
            x.arena === y.arena &&
            x.offset < y.offset + y.bytes &&
            y.offset < x.offset + x.bytes,
        ),
      )
      if (sameChannel(step, steps[j]!))
        fail(`step ${i} uses the channel of step ${j} (${steps[j]!.name}) without waiting for it`, {
          segment: segment.name,
          launch: step.name,
        })
      if (clash)
        fail(`step ${i} touches bytes of step ${j} (${steps[j]!.name}) without waiting for it`, {
          segment: segment.name,
          launch: step.name,
        })
    }
  })
}

/**
 * Follows the activations through all segments in order. Lifetimes say which tensor a range is at which op: an op
 * binds only what is alive then, reads only what an op before it wrote, and writes over nothing but in place.
 */
function verifyValues(program: Program, fail: Fail): void {
  const tensors = program.arenas.find((a) => a.kind === 'activations')?.tensors ?? []
  const byOffset = new Map<number, TensorPlan[]>()
  for (const tensor of tensors) byOffset.set(tensor.offset, [...(byOffset.get(tensor.offset) ?? []), tensor])
  const written = new Set<TensorPlan>()
  const aliveAt = (op: number, { live }: TensorPlan): boolean => live![0] <= op && op <= live![1]
  const resolve = ({ offset, bytes }: Range, op: number, what: string, at: object): TensorPlan =>
    byOffset.get(offset)?.find((t) => t.bytes === bytes && aliveAt(op, t)) ??
    fail(`${what} is at ${offset}+${bytes}, where no activation is alive at op ${op}`, at)
  const read = (range: Range, op: number, what: string, at: object): void => {
    if (range.arena !== 'activations') return
    const tensor = resolve(range, op, what, at)
    if (!written.has(tensor)) fail(`${what} is ${tensor.name}, which no step before writes`, at)
  }
  let op = -1
  for (const { name, steps, outputs } of program.segments) {
    for (const step of steps) {
      const at = { segment: name, launch: step.name }
      const isFirst = step.kind !== 'launch' || step.part[0] === 0
      if (isFirst) op++
      for (const use of usesOfStep(step))
        if (use.arena === 'activations' && !tensors.some((t) => aliveAt(op, t) && contains(t, use)))
          fail(`${use.offset}+${use.bytes} lies in no activation that is alive at op ${op}`, at)
      if (step.kind === 'transfer') {
        read(step.from, op, 'what is sent', at)
        if (step.to.arena === 'activations') written.add(resolve(step.to, op, 'what is received', at))
        continue
      }
      if (step.kind === 'exchange') {
        const holder = (range: Range): TensorPlan =>
          tensors.find((t) => aliveAt(op, t) && contains(t, range))!
        for (const message of step.sends)
          if (message.arena === 'activations' && !written.has(holder(message)))
            fail(`what is sent is ${holder(message).name}, which no step before writes`, at)
        for (const message of step.receives) if (message.arena === 'activations') written.add(holder(message))
        continue
      }
      const { call, part } = step
      const inPlace = opContract(call.op).inPlace ?? {}
      if (isFirst)
        for (const [port, input] of Object.entries(call.inputs)) read(input, op, `input '${port}'`, at)
      if (part[0] !== part[1] - 1) continue
      for (const [port, output] of Object.entries(call.outputs)) {
        if (output.arena !== 'activations') continue
        const tensor = resolve(output, op, `output '${port}'`, at)
        if (written.has(tensor) && !(port in inPlace))
          fail(`output '${port}' is written over ${tensor.name}, which a step before made`, at)
        written.add(tensor)
      }
    }
    for (const output of outputs) {
      if (output.arena !== 'activations') continue
      const at = { segment: name }
      const tensor =
        tensors.find((t) => aliveAt(op, t) && contains(t, output)) ??
        fail(
          `output '${output.name}' is at ${output.offset}+${output.bytes}, where no activation is alive at op ${op}`,
          at,
        )
      if (!written.has(tensor))
        fail(`output '${output.name}' is ${tensor.name}, which no step before writes`, at)
    }
  }
}

const contains = (outer: { offset: number; bytes: number }, inner: Range): boolean =>
  outer.offset <= inner.offset && inner.offset + inner.bytes <= outer.offset + outer.bytes
