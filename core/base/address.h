// Addresses to listen on, as options give them.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace dreamstate {

// INVALID_ARGUMENT naming `flag` unless `address` is host:port, such as "127.0.0.1:9464" or
// "[::1]:9464"; the port is 0 to 65535. The host is not looked up.
absl::Status CheckAddress(std::string_view flag, std::string_view address);

}  // namespace dreamstate
