#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_reference.h"
#include "kernels/runtime/bf16.h"

namespace dreamstate::kernels {
namespace {

constexpr int kPanel = PackedMatrix::kPanel;

template <typename Element>
void Write(std::byte* at, int64_t index, Element value) {
  std::memcpy(at + index * sizeof value, &value, sizeof value);
}

// Bytes of a panel.
int64_t PanelBytes(int inputs, WeightFormat format) {
  switch (format) {
    case WeightFormat::kFloat32:
      return int64_t{inputs} * kPanel * sizeof(float);
    case WeightFormat::kBfloat16:
      return (int64_t{inputs} + inputs % 2) * kPanel * sizeof(Bf16);
    case WeightFormat::kInt8: {
      const int64_t groups = (inputs + kInt8Group - 1) / kInt8Group;
      const int64_t steps = (inputs + 3) / 4;
      return (groups * sizeof(float) + steps * 4) * kPanel;
    }
  }
  return 0;
}

// `count` outputs; weight (n, k) is at weights[n * output_step + k * input_step].
struct PanelSource {
  const float* weights;
  int64_t output_step;
  int64_t input_step;
  int count;
  int inputs;
};

void PackFloats(const PanelSource& source, std::byte* out) {
  for (int64_t k = 0; k < source.inputs; ++k) {
    for (int n = 0; n < source.count; ++n) {
      Write(out, k * kPanel + n, source.weights[n * source.output_step + k * source.input_step]);
    }
  }
}

void PackPairs(const PanelSource& source, std::byte* out) {
  for (int64_t k = 0; k < source.inputs; ++k) {
    for (int n = 0; n < source.count; ++n) {
      Write(out, (k / 2 * kPanel + n) * 2 + k % 2,
            FloatToBf16(source.weights[n * source.output_step + k * source.input_step]));
    }
  }
}

void PackQuads(const PanelSource& source, std::byte* out) {
  constexpr auto kZero = std::byte{128};
  for (int first = 0; first < source.inputs; first += kInt8Group) {
    const int inputs = source.inputs - first < kInt8Group ? source.inputs - first : kInt8Group;
    const int steps = (inputs + 3) / 4;
    std::byte* codes = out + kPanel * sizeof(float);
    std::memset(codes, static_cast<int>(kZero), static_cast<size_t>(steps) * kPanel * 4);
    for (int n = 0; n < source.count; ++n) {
      int8_t q[kInt8Group];
      Write(out, n,
            QuantizeReference(source.weights + n * source.output_step + first * source.input_step,
                              source.input_step, inputs, q));
      for (int k = 0; k < inputs; ++k) {
        codes[(k / 4 * kPanel + n) * 4 + k % 4] = static_cast<std::byte>(q[k] + 128);
      }
    }
    out = codes + static_cast<int64_t>(steps) * kPanel * 4;
  }
}

}  // namespace

PackedMatrix PackedMatrix::Pack(const float* weights, int outputs, int inputs, bool transposed,
                                WeightFormat format, Arena* arena) {
  PackedMatrix packed;
  packed.outputs_ = outputs;
  packed.inputs_ = inputs;
  packed.format_ = format;
  const int64_t panel_bytes = PanelBytes(inputs, format);
  packed.bytes_ = static_cast<size_t>(panel_bytes) * packed.panels();
  // Zeroed: the padding is in place.
  std::byte* data = arena == nullptr ? nullptr : arena->Allocate(packed.bytes_ + kSlack);
  if (data == nullptr) {
    packed.own_ = MakeAligned<std::byte>(packed.bytes_ + kSlack);
    data = packed.own_.get();
  }
  packed.data_ = data;

  const int64_t output_step = transposed ? 1 : inputs;
  const int64_t input_step = transposed ? outputs : 1;
  for (int panel = 0; panel < packed.panels(); ++panel) {
    const int first = panel * kPanel;
    const PanelSource source = {weights + first * output_step, output_step, input_step,
                                outputs - first < kPanel ? outputs - first : kPanel, inputs};
    std::byte* out = data + panel * panel_bytes;
    switch (format) {
      case WeightFormat::kFloat32:
        PackFloats(source, out);
        break;
      case WeightFormat::kBfloat16:
        PackPairs(source, out);
        break;
      case WeightFormat::kInt8:
        PackQuads(source, out);
        break;
    }
  }
  return packed;
}

}  // namespace dreamstate::kernels
