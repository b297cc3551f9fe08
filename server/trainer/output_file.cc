#include "server/trainer/output_file.h"

#include <filesystem>
#include <system_error>

#include "core/base/strings.h"

namespace dreamstate::trainer {

absl::Status CheckIsFile(std::string_view flag, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder, error)) {
    return absl::NotFoundError(StrCat(flag, ": ", folder.string(), " is no directory"));
  }
  if (!std::filesystem::exists(path, error) || std::filesystem::is_regular_file(path, error)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      StrCat(flag, ": expected a file or nothing there yet, found something else (", path, ")"));
}

}  // namespace dreamstate::trainer
