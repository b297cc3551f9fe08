#include "server/trainer/progress.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "core/base/memory.h"

namespace dreamstate::trainer {

void ProgressPrinter::Begin(std::string_view stage, int64_t bytes) {
  End();
  if (bytes < kLeastBytes) return;
  in_stage_ = true;
  bytes_ = bytes;
  began_ = now_();
  out_ << absl::StreamFormat("%-20s %8s ", stage, ShowBytes(bytes)) << std::flush;
}

void ProgressPrinter::End() {
  if (!in_stage_) return;
  in_stage_ = false;
  const double seconds = std::chrono::duration<double>(now_() - began_).count();
  const auto rate = static_cast<int64_t>(static_cast<double>(bytes_) / std::max(seconds, 1e-3));
  out_ << absl::StreamFormat("%8.1f s  %8s/s\n", seconds, ShowBytes(rate)) << std::flush;
}

}  // namespace dreamstate::trainer
