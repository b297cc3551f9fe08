#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/runtime/bf16.h"

namespace dreamstate::kernels {
namespace {

template <typename Element>
void Write(std::byte* at, int64_t index, Element value) {
  std::memcpy(at + index * sizeof value, &value, sizeof value);
}

}  // namespace

PackedMatrix PackedMatrix::Pack(const float* weights, int outputs, int inputs, bool transposed,
                                WeightFormat format) {
  const bool bf16 = format == WeightFormat::kBfloat16;
  PackedMatrix packed;
  packed.outputs_ = outputs;
  packed.inputs_ = inputs;
  packed.format_ = format;
  const int64_t padded_inputs = bf16 ? inputs + inputs % 2 : inputs;
  const int64_t panel_elements = padded_inputs * kPanel;
  packed.bytes_ =
      static_cast<size_t>(panel_elements) * packed.panels() * (bf16 ? sizeof(Bf16) : sizeof(float));
  packed.data_ = MakeAligned<std::byte>(packed.bytes_);  // zeroed: the padding is in place

  const int64_t output_step = transposed ? 1 : inputs;
  const int64_t input_step = transposed ? outputs : 1;
  for (int panel = 0; panel < packed.panels(); ++panel) {
    const int first = panel * kPanel;
    const int count = outputs - first < kPanel ? outputs - first : kPanel;
    std::byte* out =
        packed.data_.get() + panel * panel_elements * (bf16 ? sizeof(Bf16) : sizeof(float));
    for (int64_t k = 0; k < inputs; ++k) {
      for (int n = 0; n < count; ++n) {
        const float value = weights[(first + n) * output_step + k * input_step];
        if (bf16) {
          Write(out, (k / 2 * kPanel + n) * 2 + k % 2, FloatToBf16(value));
        } else {
          Write(out, k * kPanel + n, value);
        }
      }
    }
  }
  return packed;
}

}  // namespace dreamstate::kernels
