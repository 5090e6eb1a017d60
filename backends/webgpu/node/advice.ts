import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs'
import { SWIFTSHADER_PACKAGE } from './swiftshader.ts'
