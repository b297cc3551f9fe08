#include "server/trainer/self_test.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/rwkv/engine.h"
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

// Nats, summed over tokens[1..].
absl::StatusOr<double> Loss(const tensors::TensorSet& backbone, rwkv::WeightFormat format,
                            const std::vector<int32_t>& tokens, kernels::ThreadPool& pool) {
  DS_ASSIGN_OR_RETURN(std::shared_ptr<const rwkv::Weights> weights,
                      rwkv::Weights::Load(backbone, format));
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

absl::StatusOr<repository::SelfTest> MakeSelfTest(const tensors::TensorSet& backbone,
                                                  std::vector<int32_t> tokens) {
  constexpr size_t kMostTokens = 4096;
  if (tokens.size() < 2 || tokens.size() > kMostTokens) {
    return absl::InvalidArgumentError(
        StrCat("self-test: expected 2 to ", kMostTokens, " tokens, found ", tokens.size()));
  }
  kernels::ThreadPool pool(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  repository::SelfTest test;
  DS_ASSIGN_OR_RETURN(test.expected_nll,
                      Loss(backbone, rwkv::WeightFormat::kFloat32, tokens, pool));
  DS_ASSIGN_OR_RETURN(const double rounded,
                      Loss(backbone, rwkv::WeightFormat::kBfloat16, tokens, pool));
  const auto count = static_cast<double>(tokens.size() - 1);
  test.tolerance = {
      {"fp32", kRoundingNatsPerToken * count},
      {"bf16", std::max(kFormatMargin * std::abs(rounded - test.expected_nll),
                        kLeastFormatTolerancePerToken * count)},
  };
  test.tokens = std::move(tokens);
  return test;
}

}  // namespace dreamstate::trainer
