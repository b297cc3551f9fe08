#include "server/inference/bundle_memory.h"

#include "core/base/strings.h"
#include "core/rwkv/footprint.h"

namespace dreamstate::server {
namespace {

// Buffers of a forward as wide as the model (rwkv::Workspace), rounded up.
constexpr int64_t kWideBuffers = 24;
// A batch of the largest size, and torch's own.
constexpr int64_t kStateDitBatchBytes = int64_t{96} << 20;

}  // namespace

MemoryNeed EstimateMemory(const tensors::TensorSet& backbone, const rwkv::Config& config,
                          rwkv::WeightFormat format, const rwkv::FormatPolicy& policy,
                          const SchedulerOptions& options) {
  constexpr int64_t kFloat = sizeof(float);
  const int64_t width = config.width, vocab = config.vocab, ffn = config.ffn_width;
  const int64_t ranks =
      int64_t{config.rank_decay} + config.rank_iclr + config.rank_value + config.rank_gate;
  MemoryNeed need;
  need.weights = rwkv::EstimateLoadBytes(backbone, format, policy);
  need.states = options.slots * (config.state_bytes() + kFloat * (vocab + width));
  need.workspace = kFloat * (options.max_step_tokens * (kWideBuffers * width + ffn + ranks) +
                             options.slots * (vocab + width));
  return need;
}

int64_t EstimateStateDitMemory(const tensors::TensorSet& state_dit) {
  constexpr int64_t kFloat = sizeof(float);
  int64_t elements = 0;
  for (const tensors::Tensor& tensor : state_dit.tensors()) elements += tensor.elements();
  return kFloat * elements + kStateDitBatchBytes;
}

absl::Status CheckMemory(const MemoryNeed& need, std::optional<int64_t> available_bytes) {
  if (!available_bytes || need.total() + kMemoryReserveBytes <= *available_bytes) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(StrCat(
      "not enough memory: needs ", need.total(), " bytes (weights ", need.weights, ", states ",
      need.states, ", workspace ", need.workspace, ", state DiT ", need.state_dit, ") and ",
      kMemoryReserveBytes, " to spare; available are ", *available_bytes));
}

}  // namespace dreamstate::server
