#include "server/trainer/token_progress.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace dreamstate::trainer {
namespace {

constexpr std::chrono::milliseconds kInterval(250);
constexpr char kClearLine[] = "\r\x1b[K";

}  // namespace

std::string TokenProgress::Line(std::chrono::duration<double> elapsed) const {
  const double rate = static_cast<double>(done_) / std::max(elapsed.count(), 1e-3);
  std::string line = absl::StrFormat("%-16s %3d %%  %d of %d tokens  %.0f tokens/s  %.0f s", stage_,
                                     total_ == 0 ? 100 : 100 * done_ / total_, done_, total_, rate,
                                     elapsed.count());
  if (done_ < total_ && rate > 0) {
    absl::StrAppendFormat(&line, ", %.0f s left", static_cast<double>(total_ - done_) / rate);
  }
  return line;
}

void TokenProgress::Show(std::string_view stage, int64_t done, int64_t total) {
  if (stage != stage_ || done == 0) {
    End();
    stage_ = stage;
    began_ = shown_ = now_();
  }
  done_ = done;
  total_ = total;
  if (!terminal_ || now_() - shown_ < kInterval) return;
  shown_ = now_();
  out_ << kClearLine << Line(shown_ - began_) << std::flush;
}

void TokenProgress::End() {
  if (stage_.empty()) return;
  out_ << (terminal_ ? kClearLine : "") << Line(now_() - began_) << "\n" << std::flush;
  stage_.clear();
}

}  // namespace dreamstate::trainer
