/** Runs ONNX graphs, and tokenizes text for them. */
import type { Plugin } from '../../core/contract.ts'
import { OnnxExecutor } from './executor.ts'

export { wordPiece, type WordPieceOptions } from './word-piece.ts'

/** The executor of ONNX graphs; it needs the package onnxruntime-node. */
const torchOnnx: Plugin = { name: 'torch-onnx', contract: 1, executors: [new OnnxExecutor()] }
export default torchOnnx
