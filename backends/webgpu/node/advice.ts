import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DriverKind } from './driver.ts'

/** Where Vulkan loaders look for drivers, as far as packages install there. */
const ICD_FOLDERS = ['/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d', '/usr/share/vulkan/icd.d']

/** Debian keeps its package sources in one of these, in one of two syntaxes. */
const SOURCES_LIST = '/etc/apt/sources.list'
const SOURCES_DEB822 = '/etc/apt/sources.list.d/debian.sources'

const INSTALL = 'apt-get install -y'

/** What is faster than `kind` on this machine, with the command that gets it; undefined when nothing is known. */
export function fasterThan(kind: DriverKind): string | undefined {
  if (process.platform !== 'linux') return undefined
  if (kind === 'lavapipe') return missingGpuHint() ?? 'a GPU with a Vulkan driver'
  if (kind !== 'swiftshader') return undefined
  const gpu = missingGpuHint()
  return `${gpu ? `${gpu}; or ` : ''}Mesa's lavapipe, 23 or newer: ${mesaCommand(osRelease(), existsSync)}`
}

/**
 * The command that installs a Mesa whose lavapipe Dawn accepts.
 *
 * @param release the fields of /etc/os-release
 * @param exists whether a file exists
 */
export function mesaCommand(
  release: Readonly<Record<string, string>>,
  exists: (path: string) => boolean,
): string {
  const version = Number.parseFloat(release.VERSION_ID ?? '')
  if (release.ID === 'debian' && version === 12) {
    // Debian 12's own Mesa is 22.3; the backports entry is the system's own with another suite, so that it
    // uses the mirror and the key that are already trusted here.
    const entry = exists(SOURCES_DEB822)
      ? `awk 'BEGIN{RS="";ORS="\\n\\n"} sub(/Suites: bookworm( [^\\n]*)?\\n/,"Suites: bookworm-backports\\n")' ${SOURCES_DEB822} > /etc/apt/sources.list.d/backports.sources`
      : `sed -n 's/^deb \\(.*\\) bookworm main.*/deb \\1 bookworm-backports main/p' ${SOURCES_LIST} > /etc/apt/sources.list.d/backports.list`
    return `as root: ${entry} && apt-get update && ${INSTALL} -t bookworm-backports mesa-vulkan-drivers`
  }
  if ((release.ID === 'debian' && version > 12) || (release.ID === 'ubuntu' && version >= 22.04))
    return `as root: apt-get update && ${INSTALL} mesa-vulkan-drivers`
  if (release.ID === 'fedora') return 'as root: dnf install -y mesa-vulkan-drivers'
  return "install it from your distribution's packages"
}

/** Why a GPU that the kernel knows of may be missing from Vulkan; undefined when there is none in sight. */
export function missingGpuHint(): string | undefined {
  if (existsSync('/dev/nvidiactl'))
    return 'an NVIDIA GPU is here, but its Vulkan driver is not: install it, or start the container with NVIDIA_DRIVER_CAPABILITIES=all'
  const nodes = list('/dev/dri').filter((name) => name.startsWith('renderD'))
  const closed = nodes.find((name) => !writable(join('/dev/dri', name)))
  if (closed)
    return `/dev/dri/${closed} may not be opened by this user: join the group 'render' and log in again`
  if (nodes.length > 0)
    return `a GPU is at /dev/dri/${nodes[0]}, but no Vulkan driver for it that Dawn accepts`
  return undefined
}

/**
 * The ICD files of installed lavapipes, accepted by Dawn or not, in the form of VK_ICD_FILENAMES; undefined when
 * there is none.
 */
export function lavapipeIcd(): string | undefined {
  const named = process.env.VK_DRIVER_FILES || process.env.VK_ICD_FILENAMES
  const files = named
    ? named.split(':')
    : ICD_FOLDERS.flatMap((dir) => list(dir).map((file) => join(dir, file)))
  return files.filter((file) => read(file).includes('libvulkan_lvp')).join(':') || undefined
}

function osRelease(): Record<string, string> {
  const lines = read('/etc/os-release').matchAll(/^(\w+)="?([^"\n]*)"?$/gm)
  return Object.fromEntries([...lines].map(([, key, value]) => [key!, value!]))
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : []
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

function writable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}
