#include "server/trainer/self_test.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>
#include <utility>

#include "core/base/memory.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/rwkv/engine.h"
#include "core/rwkv/footprint.h"
#include "core/rwkv/weights.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::trainer {
namespace {

// Sums of losses over the same weights differ between instruction sets by rounding: far less than
// this.
constexpr double kRoundingNatsPerToken = 1e-4;
// A format's distance from fp32 varies with the instruction set about as much as it is large.
constexpr double kFormatMargin = 4;
constexpr double kLeastFormatTolerancePerToken = 0.01;
// The most in any case: beyond it a tolerance would let a wrong model through.
constexpr double kUnmeasuredTolerancePerToken = 0.1;

// Measured in this order; what the first that fits gives is what is expected of all.
constexpr rwkv::WeightFormat kFormats[] = {
    rwkv::WeightFormat::kFloat32, rwkv::WeightFormat::kBfloat16, rwkv::WeightFormat::kInt8};

// Nats, summed over tokens[1..]. `fingerprint`: of the tensors before; empty: of none.
absl::StatusOr<double> Loss(const tensors::TensorSet& backbone, rwkv::WeightFormat format,
                            const rwkv::FormatPolicy& policy, const std::vector<int32_t>& tokens,
                            kernels::ThreadPool& pool, std::string* fingerprint) {
  DS_ASSIGN_OR_RETURN(std::shared_ptr<const rwkv::Weights> weights,
                      rwkv::Weights::Load(backbone, format, policy));
  const std::string before = std::exchange(*fingerprint, weights->fingerprint);
  if (!before.empty() && *fingerprint != before) {
    return absl::DataLossError(StrCat("self-test: expected fingerprint ", before,
                                      " as before, found ", *fingerprint, " (", backbone.source(),
                                      ")"));
  }
  const size_t count = tokens.size() - 1;
  rwkv::Engine engine(std::move(weights),
                      {.max_tokens = static_cast<int>(count), .max_sequences = 1, .slots = 1},
                      pool);
  engine.slots().Clear(0);
  std::vector<float> nll(count);
  rwkv::Segment segment{.slot = 0, .tokens = std::span(tokens).first(count)};
  segment.targets = std::span(tokens).subspan(1);
  segment.nll = nll.data();
  DS_RETURN_IF_ERROR(engine.Forward({&segment, 1}));
  const double loss = std::accumulate(nll.begin(), nll.end(), 0.0);
  if (!std::isfinite(loss)) {
    return absl::InvalidArgumentError(StrCat("self-test: expected a finite loss in ",
                                             rwkv::WeightFormatName(format), ", found ", loss, " (",
                                             backbone.source(), ")"));
  }
  return loss;
}

}  // namespace

absl::StatusOr<std::vector<rwkv::WeightFormat>> AffordableFormats(
    std::span<const FormatNeed> needs, std::optional<int64_t> available_bytes,
    std::string_view source) {
  std::vector<rwkv::WeightFormat> formats;
  const FormatNeed* least = &needs.front();
  for (const FormatNeed& need : needs) {
    if (!available_bytes.has_value() || need.bytes <= *available_bytes) {
      formats.push_back(need.format);
    }
    if (need.bytes < least->bytes) least = &need;
  }
  if (!formats.empty()) return formats;
  return QuotaError("memory",
                    StrCat("self-test: expected ", ShowBytes(least->bytes),
                           " of memory for the model in ", rwkv::WeightFormatName(least->format),
                           ", found ", ShowBytes(*available_bytes), " (", source, ")"),
                    std::nullopt);
}

absl::Status CheckSelfTestLength(size_t tokens) {
  constexpr size_t kMostTokens = 4096;
  if (tokens >= 2 && tokens <= kMostTokens) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("self-test: expected 2 to ", kMostTokens, " tokens, found ", tokens));
}

absl::StatusOr<repository::SelfTest> MakeSelfTest(const tensors::TensorSet& backbone,
                                                  std::vector<int32_t> tokens,
                                                  std::optional<rwkv::FormatPolicy> policy,
                                                  std::optional<int64_t> available_bytes,
                                                  const ProgressCallback& progress,
                                                  std::string* fingerprint) {
  DS_RETURN_IF_ERROR(CheckSelfTestLength(tokens.size()));
  const rwkv::FormatPolicy int8_policy = policy.value_or(rwkv::FormatPolicy::Default());
  std::vector<FormatNeed> needs;
  for (const rwkv::WeightFormat format : kFormats) {
    needs.push_back({format, rwkv::EstimateRunBytes(backbone, format, int8_policy)});
  }
  DS_ASSIGN_OR_RETURN(std::vector<rwkv::WeightFormat> formats,
                      AffordableFormats(needs, available_bytes, backbone.source()));
  if (!policy && formats.front() != rwkv::WeightFormat::kInt8) {
    std::erase(formats, rwkv::WeightFormat::kInt8);
    needs.pop_back();
  }
  int64_t file_bytes = 0;
  for (const tensors::Tensor& tensor : backbone.tensors()) {
    file_bytes += static_cast<int64_t>(tensor.data.size());
  }
  kernels::ThreadPool pool(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  const auto count = static_cast<double>(tokens.size() - 1);
  std::string tested;
  repository::SelfTest test;
  // What was not measured is held to what still tells a wrong model.
  for (const auto& [format, bytes] : needs) {
    test.tolerance[std::string(rwkv::WeightFormatName(format))] =
        kUnmeasuredTolerancePerToken * count;
  }
  for (const rwkv::WeightFormat format : formats) {
    const std::string name(rwkv::WeightFormatName(format));
    progress(StrCat("self-test in ", name), file_bytes);
    DS_ASSIGN_OR_RETURN(const double loss,
                        Loss(backbone, format, int8_policy, tokens, pool, &tested));
    if (format == formats.front()) test.expected_nll = loss;
    if (format == rwkv::WeightFormat::kFloat32) {
      test.tolerance[name] = kRoundingNatsPerToken * count;
      continue;
    }
    const double distance = std::abs(loss - test.expected_nll);
    const double most = kUnmeasuredTolerancePerToken * count;
    if (distance <= most) {
      test.tolerance[name] =
          std::clamp(kFormatMargin * distance, kLeastFormatTolerancePerToken * count, most);
    } else if (format == rwkv::WeightFormat::kInt8) {
      test.tolerance.erase(name);  // it spoils this model: no server is to take it
    } else {
      return absl::InvalidArgumentError(
          StrCat("self-test: expected a loss in ", name, " within ", most, " nats of ",
                 test.expected_nll, " (", kUnmeasuredTolerancePerToken, " a token), found ", loss,
                 ": the model does not stand ", name, " (", backbone.source(), ")"));
    }
  }
  test.tokens = std::move(tokens);
  if (fingerprint != nullptr) *fingerprint = std::move(tested);
  return test;
}

}  // namespace dreamstate::trainer
