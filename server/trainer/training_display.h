// What a training run shows on the terminal: a bar that is redrawn, or a line now and then where
// there is no terminal.
#pragma once

#include <chrono>
#include <ostream>
#include <string>
#include <string_view>

#include "core/training/run.h"

namespace dreamstate::trainer {

// Not thread-safe.
class TrainingDisplay {
 public:
  // `terminal`: whether `out` is one.
  TrainingDisplay(std::ostream& out, bool terminal) : out_(out), terminal_(terminal) {}
  ~TrainingDisplay();
  TrainingDisplay(const TrainingDisplay&) = delete;
  TrainingDisplay& operator=(const TrainingDisplay&) = delete;

  void Step(const training::RunProgress& progress);
  // A line of its own, above the bar.
  void Note(std::string_view text);

 private:
  std::ostream& out_;
  const bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_ = {};
};

}  // namespace dreamstate::trainer
