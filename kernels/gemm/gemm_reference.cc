#include "kernels/gemm/gemm_reference.h"

#include <cmath>
#include <cstring>

#include "kernels/gemm/gemm_isa.h"
#include "kernels/runtime/bf16.h"

namespace dreamstate::kernels {
namespace {

constexpr int kPanel = PackedMatrix::kPanel;

void Store(const float* sums, int outputs, Epilogue epilogue, float* y) {
  for (int n = 0; n < outputs; ++n) {
    const float sum = sums[n];
    switch (epilogue) {
      case Epilogue::kNone:
        y[n] = sum;
        break;
      case Epilogue::kAdd:
        y[n] += sum;
        break;
      case Epilogue::kSquaredRelu:
        // Written so that NaN stays NaN.
        y[n] = sum < 0.0f ? 0.0f : sum * sum;
        break;
      case Epilogue::kTanh:
        y[n] = std::tanh(sum);
        break;
      case Epilogue::kSigmoid:
        y[n] = 1.0f / (1.0f + std::exp(-sum));
        break;
    }
  }
}

// Weights lie as [inputs / kGroup][kPanel][kGroup].
template <typename Element, int kGroup, float (*Widen)(Element)>
void Multiply(const GemmBlock& block) {
  for (int p = 0; p < block.panels; ++p) {
    const auto* w = reinterpret_cast<const Element*>(block.w + p * block.panel_bytes);
    const int left = block.outputs - p * kPanel;
    for (int m = 0; m < block.rows; ++m) {
      const auto* x = reinterpret_cast<const float*>(block.x + m * block.row_bytes);
      float sums[kPanel] = {};
      for (int k = 0; k < block.inputs; ++k) {
        const Element* w_k = w + static_cast<int64_t>(k / kGroup) * kPanel * kGroup + k % kGroup;
        for (int n = 0; n < kPanel; ++n) sums[n] += x[k] * Widen(w_k[n * kGroup]);
      }
      Store(sums, left < kPanel ? left : kPanel, block.epilogue,
            block.y + m * block.y_stride + p * kPanel);
    }
  }
}

float Same(float value) { return value; }

void RoundRow(const float* x, int inputs, std::byte* rounded) {
  for (int k = 0; k < inputs + inputs % 2; ++k) {
    const float value = k < inputs ? Bf16ToFloat(FloatToBf16(x[k])) : 0.0f;
    std::memcpy(rounded + k * sizeof value, &value, sizeof value);
  }
}

}  // namespace

constinit const GemmKernels kGemmReference = {
    .float32 = Multiply<float, 1, Same>,
    .bfloat16 = Multiply<Bf16, 2, Bf16ToFloat>,
    .round_row = RoundRow,
    .rounded_bytes = sizeof(float),
};

}  // namespace dreamstate::kernels
