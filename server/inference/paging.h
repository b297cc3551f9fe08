// Pages of lists that the server keeps in memory. Page tokens are opaque to callers: the key of the
// last item shown.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace dreamstate::server {

// 1 to 1000, 0 = 100; INVALID_ARGUMENT ("page_size") otherwise.
absl::StatusOr<int> ParsePageSize(int page_size);

// `list` keeps tokens of one list from being used for another.
std::string MakePageToken(std::string_view list, std::string_view last_key);
// The last key; nothing for the first page; INVALID_ARGUMENT ("page_token") for a token that is not
// of this list.
absl::StatusOr<std::optional<std::string>> ParsePageToken(std::string_view list,
                                                          std::string_view token);

}  // namespace dreamstate::server
