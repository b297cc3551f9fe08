#include "kernels/gemm/gemm_reference.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/gemm/gemm_isa.h"
#include "kernels/gemm/int8_group.h"
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

void RoundRow(const float* x, int inputs, std::byte* rounded, int64_t) {
  for (int k = 0; k < inputs + inputs % 2; ++k) {
    const float value = k < inputs ? Bf16ToFloat(FloatToBf16(x[k])) : 0.0f;
    std::memcpy(rounded + k * sizeof value, &value, sizeof value);
  }
}

// What a row of int8 activations is here: groups of these.
struct ReferenceGroup {
  float scale;
  int8_t q[kInt8Group];
};

void QuantizeRow(const float* x, int inputs, std::byte* converted, int64_t stride) {
  for (int k = 0; k < inputs; k += kInt8Group) {
    ReferenceGroup group = {};
    const int count = inputs - k < kInt8Group ? inputs - k : kInt8Group;
    group.scale = QuantizeReference(x + k, 1, count, group.q);
    std::memcpy(converted, &group, sizeof group);
    converted += stride;
  }
}

// Weights lie as [groups]{scale [kPanel], [steps][kPanel][4]}.
void MultiplyInt8(const GemmBlock& block) {
  for (int p = 0; p < block.panels; ++p) {
    const int left = block.outputs - p * kPanel;
    for (int m = 0; m < block.rows; ++m) {
      float sums[kPanel] = {};
      const std::byte* w = block.w + p * block.panel_bytes;
      for (int first = 0; first < block.inputs; first += kInt8Group) {
        ReferenceGroup x;
        std::memcpy(&x, block.x + m * block.row_bytes + first / kInt8Group * block.x_block_bytes,
                    sizeof x);
        float scales[kPanel];
        std::memcpy(scales, w, sizeof scales);
        w += sizeof scales;
        const int inputs = block.inputs - first < kInt8Group ? block.inputs - first : kInt8Group;
        int whole[kPanel] = {};
        for (int k = 0; k < inputs; ++k) {
          for (int n = 0; n < kPanel; ++n) {
            const int weight = static_cast<int>(w[(k / 4 * kPanel + n) * 4 + k % 4]) - 128;
            whole[n] += x.q[k] * weight;
          }
        }
        for (int n = 0; n < kPanel; ++n) {
          sums[n] = std::fma(static_cast<float>(whole[n]) * x.scale, scales[n], sums[n]);
        }
        w += (inputs + 3) / 4 * kPanel * 4;
      }
      Store(sums, left < kPanel ? left : kPanel, block.epilogue,
            block.y + m * block.y_stride + p * kPanel);
    }
  }
}

}  // namespace

float QuantizeReference(const float* values, int64_t step, int count, int8_t* q) {
  uint32_t most = 0;
  for (int i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i * step, sizeof bits);
    bits &= 0x7fffffffu;
    if (bits > most) most = bits;
  }
  for (int i = 0; i < count; ++i) q[i] = 0;
  if (most >= kInt8NotFinite) return std::numeric_limits<float>::quiet_NaN();
  if (most < kInt8Least) return 0.0f;
  float largest;
  std::memcpy(&largest, &most, sizeof largest);
  const float inverse = 127.0f / largest;
  for (int i = 0; i < count; ++i) {
    q[i] = static_cast<int8_t>(std::nearbyint(values[i * step] * inverse));
  }
  return largest / 127.0f;
}

constinit const GemmKernels kGemmReference = {{
    {Multiply<float, 1, Same>, nullptr, 1, sizeof(float)},
    {Multiply<Bf16, 2, Bf16ToFloat>, RoundRow, 2, 2 * sizeof(float)},
    {MultiplyInt8, QuantizeRow, kInt8Group, sizeof(ReferenceGroup), true},
}};

}  // namespace dreamstate::kernels
