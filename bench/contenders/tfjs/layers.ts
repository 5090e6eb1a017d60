import type { Tensor, Tfjs } from './api.ts'
import type { Rope } from './llama.ts'

/** Layers of training. Gradients are written where those that tfjs derives take slower kernels or more ops. */
export interface Layers {
  /** x[.., n, in] w[.., out, in]^T. */
  linear(x: Tensor, w: Tensor): Tensor
  /** x / sqrt(mean(x^2) + eps) * w, by row. */
  rmsNorm(x: Tensor, w: Tensor): Tensor
  rope(x: Tensor): Tensor
  embedding(table: Tensor, ids: Tensor): Tensor
  /** Mean of -log softmax(logits)[target]. */
  crossEntropy(logits: Tensor, targets: Tensor): Tensor
  dispose(): void
}

export function trainingLayers(tf: Tfjs, rows: number, eps: number, { cos, sin, partner }: Rope): Layers {
  const [epsilon, each] = [tf.scalar(eps), tf.scalar(1 / rows)]
  const ones = tf.ones([1, rows])
  const backSin = tf.neg(sin)
  const flipped = (x: Tensor): Tensor => tf.transpose(x, x.shape.length === 2 ? [1, 0] : [0, 2, 1])
  const rotated = (x: Tensor, by: Tensor): Tensor =>
    tf.add(tf.mul(x, cos), tf.mul(tf.gather(x, partner, 1), by))
  return {
    // A matrix turned on its own costs little beside a product, whose kernel with vec4 takes no turned second matrix.
    linear: tf.customGrad((x: Tensor, w: Tensor, save: (saved: Tensor[]) => void) => {
      save([x, w])
      const gradFunc = (dy: Tensor, [x, w]: Tensor[]) => [tf.matMul(dy, w!), tf.matMul(dy, x!, true)]
      return { value: tf.matMul(x, flipped(w)), gradFunc }
    }),
    rmsNorm: tf.customGrad((x: Tensor, w: Tensor, save: (saved: Tensor[]) => void) => {
      const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(x), 1, true), epsilon))
      const normed = tf.mul(x, inverse)
      save([w, inverse, normed])
      const gradFunc = (dy: Tensor, [w, inverse, normed]: Tensor[]) => {
        const d = tf.mul(dy, w!)
        const along = tf.mul(normed!, tf.mean(tf.mul(d, normed!), 1, true))
        const dw = tf.matMul(ones, tf.mul(dy, normed!))
        return [tf.mul(inverse!, tf.sub(d, along)), tf.reshape(dw, w!.shape)]
      }
      return { value: tf.mul(normed, w), gradFunc }
    }),
    // Rotating back is the gradient. The scale in the tables scales both ways.
    rope: tf.customGrad((x: Tensor) => ({
      value: rotated(x, sin),
      gradFunc: (dy) => rotated(dy, backSin),
    })),
    embedding: (table, ids) =>
      tf.customGrad((table: Tensor) => ({
        value: tf.gather(table, ids),
        gradFunc: (dy) => tf.unsortedSegmentSum(dy, ids, table.shape[0]!),
      }))(table),
    crossEntropy: (logits, targets) =>
      tf.customGrad((logits: Tensor, save: (saved: Tensor[]) => void) => {
        const p = tf.softmax(logits)
        const hot = tf.oneHot(targets, logits.shape[1]!)
        save([p, hot])
        return {
          value: tf.neg(tf.mean(tf.log(tf.sum(tf.mul(p, hot), 1)))),
          gradFunc: (dy, [p, hot]) => tf.mul(tf.sub(p!, hot!), tf.mul(dy, each)),
        }
      })(logits),
    dispose: () => tf.dispose([epsilon, each, ones, backSin]),
  }
}
