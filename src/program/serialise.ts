import { z } from 'zod'
import { check, ExactmapError } from '../errors.ts'
import { type JsonValue, parseJson } from '../formats/json.ts'
import { type FormatName, formats } from '../tensor/format.ts'
import { canonicalJson } from './hash.ts'
import { externalArenas, type Program } from './program.ts'

/**
 * Far above what compiles today (a training program of 5,000 launches has about 5 MB), low enough that reading and
 * verifying a hostile file stays within seconds and some hundred MB.
 */
const LIMITS = {
  fileBytes: 256 * 2 ** 20,
  name: 4096,
  rank: 16,
  tensorsPerArena: 65536,
  buffersPerArena: 65536,
  kernels: 65536,
  modules: 256,
  segments: 1024,
  /** The verifier keeps a bit per pair of steps. */
  stepsPerSegment: 16384,
  ports: 256,
  groups: 256,
  messages: 65536,
}

const count = z.number().int().nonnegative()
const name = z.string().max(LIMITS.name)
const json: z.ZodType<JsonValue> = z.json() as z.ZodType<JsonValue>
const list = <T extends z.ZodType>(item: T, most: number) => z.array(item).max(most)

const arenaKind = z.enum(['activations', 'step_input', 'constants', ...externalArenas])
const tensorType = z.strictObject({
  shape: list(count, LIMITS.rank),
  format: z.enum(Object.keys(formats) as [FormatName, ...FormatName[]]),
})
const range = { arena: arenaKind, offset: count, bytes: count }
const operand = { ...range, type: tensorType }
const operands = z
  .record(name, z.strictObject(operand))
  .refine((ports) => Object.keys(ports).length <= LIMITS.ports, `more than ${LIMITS.ports} ports`)

const tensor = z.strictObject({
  name,
  type: tensorType,
  offset: count,
  bytes: count,
  live: z.tuple([count, count]).optional(),
  generator: z.strictObject({ name, attrs: json }).optional(),
})

const arena = z.strictObject({
  kind: arenaKind,
  external: z.boolean(),
  bytes: count,
  buffers: list(count, LIMITS.buffersPerArena),
  slotBytes: count,
  layoutHash: name,
  tensors: list(tensor, LIMITS.tensorsPerArena),
})

const kernel = z.strictObject({
  name,
  modules: list(name, LIMITS.modules),
  constants: z.record(name, z.union([z.number(), name])),
  textHash: name,
})

const message = z.strictObject({ ...range, peer: count })
const stepFields = { index: count, name, queue: name, after: list(count, LIMITS.stepsPerSegment) }
const step = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('launch'),
    ...stepFields,
    kernel: count,
    workgroups: z.tuple([count, count, count]),
    bindings: list(
      z.strictObject({ name, ...range, access: z.enum(['read', 'write', 'read_write']) }),
      LIMITS.ports,
    ),
    call: z.strictObject({ op: name, attrs: json, inputs: operands, outputs: operands }),
    part: z.tuple([count, count]),
    flops: z.number().nonnegative(),
  }),
  z.strictObject({
    kind: z.literal('transfer'),
    ...stepFields,
    from: z.strictObject(range),
    to: z.strictObject(range),
  }),
  z.strictObject({
    kind: z.literal('exchange'),
    ...stepFields,
    group: name,
    channel: count,
    sends: list(message, LIMITS.messages),
    receives: list(message, LIMITS.messages),
  }),
])

const port = z.strictObject({ ...operand, name })
const program = z.strictObject({
  format: z.literal('exactmap-program'),
  version: z.literal(1),
  name,
  target: z.strictObject({ name, backend: name, hash: name }),
  arenas: list(arena, arenaKind.options.length),
  kernels: list(kernel, LIMITS.kernels),
  segments: list(
    z.strictObject({
      name,
      steps: list(step, LIMITS.stepsPerSegment),
      inputs: list(port, LIMITS.tensorsPerArena),
      outputs: list(port, LIMITS.tensorsPerArena),
    }),
    LIMITS.segments,
  ),
  slots: count,
  groups: z
    .record(name, count)
    .refine((groups) => Object.keys(groups).length <= LIMITS.groups, `more than ${LIMITS.groups} groups`),
})

/** A program as bytes: canonical JSON in UTF-8, so that equal programs give equal bytes. */
export const encodeProgram = (value: Program): Uint8Array => new TextEncoder().encode(canonicalJson(value))

/**
 * Reads a program from bytes that may come from anywhere: every field is checked for its type and size here; the
 * rules between them are `verifyProgram`'s, which every device applies before it loads.
 *
 * @param file named in errors
 * @throws ExactmapError `invalid_format`, with the field
 */
export function decodeProgram(bytes: Uint8Array, file: string): Program {
  check(
    bytes.byteLength <= LIMITS.fileBytes,
    'invalid_format',
    `a program file has at most ${LIMITS.fileBytes} bytes, ${file} has ${bytes.byteLength}`,
  )
  const parsed = program.safeParse(parseJson(bytes, file))
  if (parsed.success) return parsed.data satisfies Program
  const { path, message } = parsed.error.issues[0]!
  throw new ExactmapError('invalid_format', `program: ${path.join('.') || 'the file'}: ${message}`, { file })
}
