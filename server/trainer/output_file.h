// Files that a command is asked to write.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace dreamstate::trainer {

// Before minutes go into what could not be written: NOT_FOUND when the folder of `path`, which
// `flag` gave, is not there; INVALID_ARGUMENT when `path` is something else than a file, for a file
// is put in place whole, which would take the place of a device or a pipe as well. No path is fine.
absl::Status CheckIsFile(std::string_view flag, const std::string& path);

}  // namespace dreamstate::trainer
