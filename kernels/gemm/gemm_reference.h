// Matrix products by plain loops over row-major weights, in float or double.
#pragma once

#include <cstdint>

namespace dreamstate::kernels {

// y[m][n] = sum over k of x[m][k] * w[n][k]; w: [outputs][inputs], or [inputs][outputs] when
// `transposed`; x: [rows][inputs]; y: [rows][outputs].
template <typename T>
void GemmReference(const T* x, const T* w, bool transposed, int rows, int inputs, int outputs,
                   T* y) {
  const int64_t output_step = transposed ? 1 : inputs;
  const int64_t input_step = transposed ? outputs : 1;
  for (int m = 0; m < rows; ++m) {
    for (int n = 0; n < outputs; ++n) {
      T sum = T(0);
      for (int k = 0; k < inputs; ++k) {
        sum += x[static_cast<int64_t>(m) * inputs + k] * w[n * output_step + k * input_step];
      }
      y[static_cast<int64_t>(m) * outputs + n] = sum;
    }
  }
}

// Whole numbers of one group of int8: q[i] = values[i * step] / scale, to nearest; returns the
// scale: NaN where a value is not finite, 0 where all are below 1e-35 (q is 0 for both). Weights
// are packed by it, and what vectors make of activations equals it to the bit.
float QuantizeReference(const float* values, int64_t step, int count, int8_t* q);

}  // namespace dreamstate::kernels
