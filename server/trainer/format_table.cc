#include "server/trainer/format_table.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/format_table.h"
#include "core/rwkv/footprint.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::trainer {
namespace {

// Prose, dialogue, numbers and code, since formats may cost each differently. (The first two are
// from Dickens, A Tale of Two Cities, and Carroll, Alice's Adventures in Wonderland.)
constexpr std::string_view kText =
    R"(It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of
foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it
was the season of Darkness, it was the spring of hope, it was the winter of despair, we had everything
before us, we had nothing before us, we were all going direct to Heaven, we were all going direct the
other way - in short, the period was so far like the present period, that some of its noisiest
authorities insisted on its being received, for good or for evil, in the superlative degree of
comparison only.

"Would you tell me, please, which way I ought to go from here?"
"That depends a good deal on where you want to get to," said the Cat.
"I don't much care where -" said Alice.
"Then it doesn't matter which way you go," said the Cat.
"- so long as I get somewhere," Alice added as an explanation.
"Oh, you're sure to do that," said the Cat, "if you only walk long enough."

The table lists rainfall in millimetres: January 61, February 48, March 52, April 44, May 57, June 63,
July 71, August 68, September 59, October 74, November 77, December 69. The wettest month was November;
the driest was April. Over the whole year 743 mm fell, 9 % more than the mean of the last thirty years.

def mean(values):
    """The arithmetic mean of a list that is not empty."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)
)";

}  // namespace

absl::StatusOr<std::optional<rwkv::FormatTable>> MeasureWeightFormats(
    const tensors::TensorSet& backbone, const text::Tokenizer& tokenizer, int32_t separator_token,
    std::optional<int64_t> available_bytes, const ProgressCallback& progress) {
  int64_t parameters = 0, bytes = 0;
  for (const tensors::Tensor& tensor : backbone.tensors()) {
    parameters += tensor.elements();
    bytes += static_cast<int64_t>(tensor.data.size());
  }
  if (parameters > kMostMeasuredParameters) return std::nullopt;
  const int64_t needed = rwkv::EstimateRunBytes(backbone, rwkv::WeightFormat::kFloat32);
  if (available_bytes.has_value() && needed > *available_bytes) return std::nullopt;
  progress("weight formats", bytes);
  std::vector<int32_t> tokens = {separator_token};
  tokenizer.Encode(kText, &tokens);
  kernels::ThreadPool pool(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  DS_ASSIGN_OR_RETURN(
      const rwkv::FormatTable table,
      rwkv::MeasureFormats(backbone, tokens, static_cast<int64_t>(kText.size()), pool));
  return table;
}

std::string DescribeWeightFormats(const nlohmann::json& config, int64_t parameters) {
  if (!config.contains(repository::kFormatTableField)) {
    return parameters > kMostMeasuredParameters
               ? StrCat("not measured: more than ", kMostMeasuredParameters, " parameters")
               : "not measured: in fp32 larger than the memory that is free";
  }
  const nlohmann::json& table = config[repository::kFormatTableField];
  const nlohmann::json& losses = table["bits_per_byte"];
  const nlohmann::json& int8 = table["int8"];
  std::string others;
  int count = 0;
  for (int kind = 0; kind < rwkv::kMatrixKinds; ++kind) {
    const std::string_view name = rwkv::MatrixKindName(static_cast<rwkv::MatrixKind>(kind));
    if (std::find(int8.begin(), int8.end(), name) != int8.end()) continue;
    StrAppend(&others, count++ == 0 ? " but " : ", ", name);
  }
  const auto loss = [&losses](const char* format) {
    return absl::StrFormat("%s %.4f", format, losses[format].get<double>());
  };
  return StrCat("bits per byte ", loss("fp32"), ", ", loss("bf16"), ", ", loss("int8"),
                "; int8 for ", count == rwkv::kMatrixKinds ? "no kind" : "all kinds" + others);
}

}  // namespace dreamstate::trainer
