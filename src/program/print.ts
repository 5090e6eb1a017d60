import { showType } from '../tensor/type.ts'
import type {
  ArenaPlan,
  Binding,
  KernelRef,
  Program,
  Range,
  Segment,
  SegmentOutput,
  Step,
} from './program.ts'

const accessMark = { read: 'r', write: 'w', read_write: 'rw' } as const

/**
 * A program as text, one fact a line, for reading, diffing and snapshots. Deterministic: equal programs give equal
 * text. Offsets and sizes are bytes; `r`, `w` and `rw` tell how a launch uses a range; `after` lists the steps of
 * the same segment that a step waits for.
 */
export function printProgram(program: Program): string {
  const { name, target, arenas, kernels, segments, slots } = program
  return [
    `program ${name}`,
    `target ${target.name} (${target.backend}, ${target.hash})`,
    `slots ${slots}`,
    ...arenas.flatMap(printArena),
    ...kernels.map(printKernel),
    ...segments.flatMap((segment) => printSegment(segment, kernels)),
    '',
  ].join('\n')
}

function printArena(arena: ArenaPlan): string[] {
  const { kind, external, bytes, buffers, slotBytes, layoutHash, tensors } = arena
  return [
    '',
    `arena ${kind}${external ? ' (external)' : ''}: ${bytes} bytes, buffers ${buffers.join(' + ')}${slotBytes ? `, slots of ${slotBytes}` : ''}, layout ${layoutHash}`,
    ...tensors.map(
      ({ name, type, offset, bytes, live, generator }) =>
        `  ${offset}+${bytes} ${showType(type)} ${name}${live ? ` live ${live[0]}-${live[1]}` : ''}${generator ? ` made by ${generator.name}` : ''}`,
    ),
  ]
}

function printKernel({ name, modules, constants, textHash }: KernelRef, index: number): string {
  const values = Object.entries(constants).map(([key, value]) => `${key}=${value}`)
  return `${index === 0 ? '\n' : ''}kernel ${index} ${name} ${textHash} = ${modules.join(' + ') || '(built in)'}${values.length > 0 ? ` { ${values.join(' ')} }` : ''}`
}

function printSegment({ name, inputs, outputs, steps }: Segment, kernels: readonly KernelRef[]): string[] {
  return [
    '',
    `segment ${name}: ${steps.length} steps`,
    ...inputs.map((input) => `  in  ${port(input)}`),
    ...steps.map((step) => `  ${printStep(step, kernels)}`),
    ...outputs.map((output) => `  out ${port(output)}`),
  ]
}

const range = ({ arena, offset, bytes }: Range): string => `${arena}@${offset}+${bytes}`

const port = (value: SegmentOutput): string => `${value.name} ${showType(value.type)} ${range(value)}`

const binding = (b: Binding): string => `${accessMark[b.access]}:${range(b)}`

function printStep(step: Step, kernels: readonly KernelRef[]): string {
  const { index, name, queue } = step
  const waits = step.after.length > 0 ? ` after ${step.after.join(',')}` : ''
  const where = queue === 'compute' ? '' : ` on ${queue}`
  if (step.kind === 'transfer')
    return `${index} ${name} copy ${range(step.from)} -> ${range(step.to)}${where}${waits}`
  if (step.kind === 'exchange') {
    const messages = [
      ...step.sends.map((m) => `${range(m)} -> ${m.peer}`),
      ...step.receives.map((m) => `${range(m)} <- ${m.peer}`),
    ]
    return `${index} ${name} exchange ${step.group}.${step.channel} ${messages.join(' ')}${where}${waits}`
  }
  const part = step.part[1] > 1 ? ` part ${step.part[0] + 1}/${step.part[1]}` : ''
  const kernel = `${step.kernel}:${kernels[step.kernel]?.name ?? '?'}`
  return `${index} ${name}${part} kernel ${kernel} grid ${step.workgroups.join('x')} ${step.bindings.map(binding).join(' ')}${where}${waits}`
}
