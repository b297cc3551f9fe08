#include "core/repository/manifest.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "core/base/strings.h"

namespace dreamstate::repository {

const Component* Manifest::Find(std::string_view kind) const {
  const auto found = std::find_if(components.begin(), components.end(),
                                  [kind](const Component& c) { return c.kind == kind; });
  return found == components.end() ? nullptr : &*found;
}

absl::Status ValidateModelName(std::string_view name) {
  constexpr size_t kLongest = 63;
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  };
  const bool good = !name.empty() && name.size() <= kLongest && letter_or_digit(name.front()) &&
                    std::all_of(name.begin(), name.end(), [&](char c) {
                      return letter_or_digit(c) || c == '-' || c == '.' || c == '_';
                    });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("model name: expected 1 to ", kLongest,
             " of a-z 0-9 - . _, beginning with a letter or digit, found \"",
             absl::CHexEscape(AbslView(name.substr(0, 2 * kLongest))), "\""));
}

}  // namespace dreamstate::repository
