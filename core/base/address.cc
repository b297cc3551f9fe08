#include "core/base/address.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "core/base/strings.h"

namespace dreamstate {

absl::Status CheckAddress(std::string_view flag, std::string_view address) {
  const size_t colon = address.rfind(':');
  const std::string_view port = colon == std::string_view::npos ? "" : address.substr(colon + 1);
  int number = 0;
  const bool digits = port.find_first_not_of("0123456789") == std::string_view::npos;
  // A comma would begin a second address for those who listen.
  const bool one = address.find(',') == std::string_view::npos;
  if (colon != 0 && one && digits && absl::SimpleAtoi(AbslView(port), &number) && number <= 65535) {
    return absl::OkStatus();
  }
  constexpr size_t kShown = 80;
  return absl::InvalidArgumentError(
      StrCat(flag, ": expected host:port, such as 127.0.0.1:50051, found \"",
             absl::CEscape(AbslView(address.substr(0, kShown))), "\""));
}

}  // namespace dreamstate
