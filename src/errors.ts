/** The closed set of error codes. Every failure a user can meet carries exactly one of them. */
export type ErrorCode =
  | 'invalid_argument' // a value passed to the API or CLI is outside what it accepts
  | 'invalid_shape' // a shape rule of an op or model is broken
  | 'invalid_format' // bytes of a file are not what the format's definition requires
  | 'invalid_config' // a configuration file does not fit its schema
  | 'invalid_program' // a program breaks a rule of the verifier
  | 'unsupported' // understood, but not available on this backend, target or version
  | 'not_found' // a file, tensor, segment, kernel or op that was named does not exist
  | 'out_of_memory' // a plan needs more than the device or its limits give
  | 'kernel_compile' // the driver refused a kernel
  | 'validation' // the driver reported an invalid use while running
  | 'device_lost' // the device is gone; open a new one
  | 'no_device' // no usable adapter or driver
  | 'io' // the operating system refused a read or write
  | 'conflict' // somebody else holds the resource, or hashes differ
  | 'interrupted' // the user or a signal stopped the work
  | 'internal' // a bug in exactmap

/** Where in a program something happened; every field that is known is filled. */
export interface ErrorPlace {
  readonly program?: string
  readonly segment?: string
  readonly launch?: string
  readonly kernel?: string
  readonly file?: string
}

/**
 * The one error class. `message` says what was expected, what came and what to do next.
 */
export class ExactmapError extends Error {
  override readonly name = 'ExactmapError'
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly place: ErrorPlace = {},
    options?: { cause?: unknown },
  ) {
    const where = Object.entries(place).map(([k, v]) => `${k} ${v}`)
    super(where.length > 0 ? `${message} [${where.join(', ')}]` : message, options)
  }
}

/** Throws `ExactmapError(code, message)` unless `condition` holds. */
export function check(
  condition: unknown,
  code: ErrorCode,
  message: string | (() => string),
): asserts condition {
  if (!condition) throw new ExactmapError(code, typeof message === 'string' ? message : message())
}
