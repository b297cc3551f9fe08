// What weight formats cost a backbone in bits per byte of a built-in text, measured by the engine
// that will serve it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "core/rwkv/format_policy.h"
#include "core/tensors/tensor_set.h"
#include "core/text/tokenizer.h"
#include "nlohmann/json.hpp"
#include "server/trainer/progress.h"

namespace dreamstate::trainer {

// Above this measuring takes longer than anybody waits for an import: ten loads and ten readings.
inline constexpr int64_t kMostMeasuredParameters = 2'000'000'000;

// None for a backbone of more than kMostMeasuredParameters, or one that in fp32 is larger than
// `available_bytes` (unset: unknown, taken as enough).
absl::StatusOr<std::optional<rwkv::FormatTable>> MeasureWeightFormats(
    const tensors::TensorSet& backbone, const text::Tokenizer& tokenizer, int32_t separator_token,
    std::optional<int64_t> available_bytes, const ProgressCallback& progress);

// One line for people: what a backbone's `config` in the manifest says of it, or why it says
// nothing.
std::string DescribeWeightFormats(const nlohmann::json& config, int64_t parameters);

}  // namespace dreamstate::trainer
