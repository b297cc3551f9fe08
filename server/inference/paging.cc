#include "server/inference/paging.h"

#include "absl/strings/escaping.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::server {
namespace {

constexpr int kDefaultPageSize = 100;
constexpr int kMaxPageSize = 1000;

}  // namespace

absl::StatusOr<int> ParsePageSize(int page_size) {
  if (page_size < 0 || page_size > kMaxPageSize) {
    return FieldError("page_size", StrCat("expected 0 to ", kMaxPageSize, ", found ", page_size));
  }
  return page_size == 0 ? kDefaultPageSize : page_size;
}

std::string MakePageToken(std::string_view list, std::string_view last_key) {
  return absl::WebSafeBase64Escape(StrCat(list, "\n", last_key));
}

absl::StatusOr<std::optional<std::string>> ParsePageToken(std::string_view list,
                                                          std::string_view token) {
  if (token.empty()) return std::nullopt;
  std::string decoded;
  const std::string prefix = StrCat(list, "\n");
  if (!absl::WebSafeBase64Unescape(AbslView(token), &decoded) || !decoded.starts_with(prefix)) {
    return FieldError("page_token", "not a page token of this list");
  }
  return decoded.substr(prefix.size());
}

}  // namespace dreamstate::server
