#include "core/text/tokenizer.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "core/base/strings.h"

namespace dreamstate::text {
namespace {

struct Entry {
  std::string_view name;
  std::unique_ptr<const Tokenizer> (*make)();
};

// One line a vocabulary.
constexpr Entry kTokenizers[] = {
    {"byte", MakeByteTokenizer},
    {"world", MakeWorldTokenizer},
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> MakeTokenizer(std::string_view name) {
  for (const Entry& entry : kTokenizers) {
    if (entry.name == name) return entry.make();
  }
  return absl::InvalidArgumentError(StrCat(
      "tokenizer: expected one of ",
      absl::StrJoin(kTokenizers, ", ",
                    [](std::string* out, const Entry& entry) { StrAppend(out, entry.name); }),
      "; found \"", absl::CHexEscape(AbslView(name.substr(0, 64))), "\""));
}

}  // namespace dreamstate::text
