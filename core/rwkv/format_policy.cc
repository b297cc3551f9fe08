#include "core/rwkv/format_policy.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/rwkv/engine.h"
#include "core/rwkv/weights.h"

namespace dreamstate::rwkv {
namespace {

constexpr std::string_view kNames[kMatrixKinds] = {
    "att.receptance", "att.key", "att.value", "att.output", "ffn.key", "ffn.value", "head"};
constexpr std::string_view kLetters = "rkvoKVh";
static_assert(kLetters.size() == kMatrixKinds);
// Tokens of one Forward.
constexpr size_t kChunk = 512;

absl::StatusOr<double> BitsPerByte(const tensors::TensorSet& backbone, WeightFormat format,
                                   const FormatPolicy& policy, std::span<const int32_t> tokens,
                                   int64_t bytes, kernels::ThreadPool& pool) {
  DS_ASSIGN_OR_RETURN(std::shared_ptr<const Weights> weights,
                      Weights::Load(backbone, format, policy));
  Engine engine(std::move(weights),
                {.max_tokens = static_cast<int>(kChunk), .max_sequences = 16, .slots = 1}, pool);
  engine.slots().Clear(0);
  double nats = 0;
  std::vector<float> nll(kChunk);
  for (size_t begin = 0; begin + 1 < tokens.size(); begin += kChunk) {
    const size_t count = std::min(kChunk, tokens.size() - 1 - begin);
    Segment segment{.slot = 0, .tokens = tokens.subspan(begin, count)};
    segment.targets = tokens.subspan(begin + 1, count);
    segment.nll = nll.data();
    DS_RETURN_IF_ERROR(engine.Forward({&segment, 1}));
    for (size_t i = 0; i < count; ++i) nats += nll[i];
  }
  if (!std::isfinite(nats)) {
    return absl::InvalidArgumentError(StrCat("weight formats: expected a finite loss in ",
                                             WeightFormatName(format), ", found ", nats, " (",
                                             backbone.source(), ")"));
  }
  return nats / std::numbers::ln2 / static_cast<double>(bytes);
}

}  // namespace

std::string_view MatrixKindName(MatrixKind kind) { return kNames[static_cast<int>(kind)]; }

FormatPolicy FormatPolicy::Default() {
  FormatPolicy policy;
  policy.int8.fill(true);
  return policy;
}

std::string FormatPolicy::Letters() const {
  std::string letters;
  for (int kind = 0; kind < kMatrixKinds; ++kind) {
    if (int8[kind]) letters.push_back(kLetters[kind]);
  }
  return letters;
}

absl::Status ChooseKinds(const std::function<absl::StatusOr<double>(const FormatPolicy&)>& measure,
                         FormatTable* table) {
  for (int kind = 0; kind < kMatrixKinds; ++kind) {
    // Written so that NaN stays bf16, here and below.
    table->policy.int8[kind] = table->kinds[kind] - table->bf16 <= kMostInt8Rise;
  }
  while (table->policy.any()) {
    DS_ASSIGN_OR_RETURN(table->int8, measure(table->policy));
    if (table->int8 - table->bf16 <= kMostInt8RiseTogether) return absl::OkStatus();
    int worst = -1;
    for (int kind = 0; kind < kMatrixKinds; ++kind) {
      if (!table->policy.int8[kind]) continue;
      if (worst < 0 || table->kinds[kind] > table->kinds[worst]) worst = kind;
    }
    table->policy.int8[worst] = false;
  }
  table->int8 = table->bf16;
  return absl::OkStatus();
}

absl::StatusOr<FormatTable> MeasureFormats(const tensors::TensorSet& backbone,
                                           std::span<const int32_t> tokens, int64_t bytes,
                                           kernels::ThreadPool& pool) {
  if (tokens.size() < 2 || bytes < 1) {
    return absl::InvalidArgumentError(
        StrCat("weight formats: expected a text of at least 2 tokens and 1 byte, found ",
               tokens.size(), " and ", bytes));
  }
  const auto measure = [&](WeightFormat format, const FormatPolicy& policy) {
    return BitsPerByte(backbone, format, policy, tokens, bytes, pool);
  };
  FormatTable table;
  table.bytes = bytes;
  DS_ASSIGN_OR_RETURN(table.fp32, measure(WeightFormat::kFloat32, {}));
  DS_ASSIGN_OR_RETURN(table.bf16, measure(WeightFormat::kBfloat16, {}));
  for (int kind = 0; kind < kMatrixKinds; ++kind) {
    FormatPolicy only;
    only.int8[kind] = true;
    DS_ASSIGN_OR_RETURN(table.kinds[kind], measure(WeightFormat::kInt8, only));
  }
  DS_RETURN_IF_ERROR(ChooseKinds(
      [&](const FormatPolicy& policy) { return measure(WeightFormat::kInt8, policy); }, &table));
  return table;
}

}  // namespace dreamstate::rwkv
