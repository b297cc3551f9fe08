// What a long command is at, for a person who waits.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>

namespace dreamstate::trainer {

// Called where a stage begins that works through `bytes` of a model; the one before it has ended.
using ProgressCallback = std::function<void(std::string_view stage, int64_t bytes)>;

// Prints a line a stage: name and bytes when it begins, time and rate when it ends. Short commands
// print nothing. Not thread-safe.
class ProgressPrinter {
 public:
  using Now = std::function<std::chrono::steady_clock::time_point()>;
  explicit ProgressPrinter(std::ostream& out, Now now = std::chrono::steady_clock::now)
      : out_(out), now_(std::move(now)) {}
  // Ends the last stage.
  ~ProgressPrinter() { End(); }
  ProgressPrinter(const ProgressPrinter&) = delete;
  ProgressPrinter& operator=(const ProgressPrinter&) = delete;

  void Begin(std::string_view stage, int64_t bytes);
  void End();

  // Stages of fewer bytes pass unmentioned.
  static constexpr int64_t kLeastBytes = 100'000'000;

 private:
  std::ostream& out_;
  Now now_;
  bool in_stage_ = false;
  int64_t bytes_ = 0;
  std::chrono::steady_clock::time_point began_;
};

}  // namespace dreamstate::trainer
