// Resource names, which people may shorten to their ids.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace dreamstate::client {

// "states/x" from "states/x" or "x"; empty stays empty. Likewise for models.
std::string StateName(absl::string_view name_or_id);
std::string ModelName(absl::string_view name_or_id);

// "x" from "states/x" or "models/x".
absl::string_view IdOf(absl::string_view name);

}  // namespace dreamstate::client
