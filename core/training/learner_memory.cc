#include "core/training/learner_memory.h"

#include <algorithm>

#include "core/base/memory.h"
#include "core/base/strings.h"
#include "core/training/backbone.h"

namespace dreamstate::training {
namespace {

// What a step keeps for its backward pass, in bytes a token, layer and channel: measured by
// training_benchmark (L4 D256) with bf16 and with fp32 products.
constexpr double kBytesKept = 120, kBytesKeptFp32 = 170;
// Inputs and targets of the batch at hand, the next one, and the one that is made.
constexpr double kBytesOfBatchToken = 3 * 2 * sizeof(int32_t);

std::string Shown(double bytes) { return ShowBytes(static_cast<int64_t>(std::min(bytes, 9e18))); }

}  // namespace

absl::Status CheckMemory(const LearnerOptions& options, const BackboneSizes& sizes, bool bf16,
                         std::optional<int64_t> available) {
  if (!available) return absl::OkStatus();
  double parameters = 0;
  for (const Parameter& parameter : ParametersOf(sizes)) {
    parameters += static_cast<double>(parameter.elements);
  }
  const double channels = static_cast<double>(sizes.layers) * sizes.width;
  const double state = channels * (2 + sizes.head_size);
  // fp32 values and gradients of all, and two moments of what is trained; tuned states have all
  // four.
  const double model = options.mode == TrainingMode::kStateTuning
                           ? 8 * parameters + 16 * options.labels * state
                           : 16 * parameters;
  const double bank = 4 * options.bank_slots * state;
  int rows = std::max(1, options.batch.rows / options.ranks.size);
  if (options.micro_batch_rows > 0) rows = std::min(rows, options.micro_batch_rows);
  const double tokens = static_cast<double>(rows) * options.batch.tokens;
  const double step =
      tokens * channels * (bf16 ? kBytesKept : kBytesKeptFp32) +
      static_cast<double>(options.batch.rows) * options.batch.tokens * kBytesOfBatchToken;
  const double need = model + bank + step;
  if (need <= static_cast<double>(*available)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      StrCat("memory: the run needs about ", Shown(need), " (model and optimiser ", Shown(model),
             ", kept states ", Shown(bank), ", a step of ", static_cast<int64_t>(tokens),
             " tokens at once ", Shown(step), "), ", ShowBytes(*available),
             " are left; make model, batch.rows, batch.tokens or batch.micro_batch_rows smaller"));
}

}  // namespace dreamstate::training
