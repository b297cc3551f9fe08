#include "server/trainer/training_display.h"

#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace dreamstate::trainer {
namespace {

std::string Left(double seconds) {
  return absl::FormatDuration(absl::Seconds(static_cast<int64_t>(seconds)));
}

}  // namespace

TrainingDisplay::~TrainingDisplay() {
  if (drawn_) out_ << "\n" << std::flush;
}

void TrainingDisplay::Step(const training::RunProgress& progress) {
  const auto now = std::chrono::steady_clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(200) : std::chrono::seconds(10);
  if (progress.step < progress.steps && now - last_ < pause) return;
  last_ = now;
  const double share = static_cast<double>(progress.step) / static_cast<double>(progress.steps);
  std::string line =
      absl::StrFormat("step %d/%d  %.1f M tokens  loss %.4f  lr %.2e  %.0f tokens/s  %s left",
                      progress.step, progress.steps, progress.tokens / 1e6, progress.smoothed_loss,
                      progress.lr, progress.tokens_per_second, Left(progress.seconds_left));
  if (!terminal_) {
    out_ << line << "\n" << std::flush;
    return;
  }
  constexpr int kBar = 20;
  const int full = static_cast<int>(share * kBar);
  out_ << "\r\x1b[K[" << std::string(full, '#') << std::string(kBar - full, '.') << "] " << line
       << std::flush;
  drawn_ = true;
}

void TrainingDisplay::Note(std::string_view text) {
  if (drawn_) out_ << "\r\x1b[K";
  drawn_ = false;
  out_ << text << "\n" << std::flush;
}

}  // namespace dreamstate::trainer
