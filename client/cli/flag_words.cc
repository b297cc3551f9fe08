#include "client/cli/flag_words.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace dreamstate::cli {

absl::Status InFlagWords(const absl::Status& status,
                         std::initializer_list<std::pair<const char*, std::string>> words) {
  if (!absl::IsInvalidArgument(status)) return status;
  for (const auto& [field, word] : words) {
    absl::string_view message = status.message();
    if (!absl::ConsumePrefix(&message, absl::StrCat(field, ": "))) continue;
    absl::ConsumePrefix(&message, "the file: ");
    // Without the details, which name the field again.
    return absl::InvalidArgumentError(
        absl::StrCat(word, ": ",
                     absl::StrReplaceAll(message, {{"BFLOAT16", "bf16"},
                                                   {"FLOAT16", "fp16"},
                                                   {"FLOAT32", "fp32"},
                                                   {"layout DREAMSTATE", "layout dreamstate"},
                                                   {"CANONICAL", "canonical"},
                                                   {"RWKV_PACKAGE", "rwkv"},
                                                   {"TIME_STATE", "time-state"}})));
  }
  return status;
}

}  // namespace dreamstate::cli
