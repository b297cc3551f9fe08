#include "client/cli/progress_bar.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace dreamstate::cli {

std::string ProgressBar(int64_t done, int64_t total) {
  constexpr int64_t kCells = 24;
  const int64_t filled = total > 0 ? std::clamp<int64_t>(done, 0, total) * kCells / total : 0;
  return absl::StrCat("[", std::string(static_cast<size_t>(filled), '#'),
                      std::string(static_cast<size_t>(kCells - filled), '.'), "]");
}

}  // namespace dreamstate::cli
