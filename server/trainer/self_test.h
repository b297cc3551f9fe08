// What a bundle's self-test must give, computed by the engine that will serve it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/repository/manifest.h"
#include "core/rwkv/format_policy.h"
#include "core/rwkv/weights.h"
#include "core/tensors/tensor_set.h"
#include "server/trainer/progress.h"

namespace dreamstate::trainer {

// What a weight format takes to be measured.
struct FormatNeed {
  rwkv::WeightFormat format;
  int64_t bytes;
};

// The formats, in the order given, that fit the memory; all of them when it is unknown.
// RESOURCE_EXHAUSTED naming `source`, the least need and what there is when none does.
absl::StatusOr<std::vector<rwkv::WeightFormat>> AffordableFormats(
    std::span<const FormatNeed> needs, std::optional<int64_t> available_bytes,
    std::string_view source);

// INVALID_ARGUMENT for a number of tokens that MakeSelfTest would refuse: for who measures first.
absl::Status CheckSelfTestLength(size_t tokens);

// Runs `tokens` (2 to 4096, in the vocabulary) from the empty state in every weight format, one
// after another: of a model larger than `available_bytes` in fp32 only in those that fit. The loss
// of the first (fp32, if it fits) is what is expected; its own tolerance covers other instruction
// sets, that of another format also its distance from it. `policy` says what int8 holds in int8;
// without one (nobody measured it) int8 is left out unless nothing else fits, and no server takes
// it for this bundle unless told to.
// No tolerance is more than a tenth of a nat a token: int8 that is farther than that from what is
// expected is left out. `fingerprint`, unless null, becomes that of the tensors as they were
// tested. INVALID_ARGUMENT for tensors that are no backbone, a loss that is not finite, or one in
// bf16 that far from what is expected; RESOURCE_EXHAUSTED before anything is loaded when no format
// fits; DATA_LOSS when the tensors are others in another format (they may lie in a file that
// somebody writes).
absl::StatusOr<repository::SelfTest> MakeSelfTest(
    const tensors::TensorSet& backbone, std::vector<int32_t> tokens,
    std::optional<rwkv::FormatPolicy> policy = rwkv::FormatPolicy::Default(),
    std::optional<int64_t> available_bytes = std::nullopt,
    const ProgressCallback& progress = [](std::string_view, int64_t) {},
    std::string* fingerprint = nullptr);

}  // namespace dreamstate::trainer
