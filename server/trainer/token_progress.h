// How far a long reading is, for a person who waits: a line that is written over on a terminal, and
// a line a stage elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>

namespace dreamstate::trainer {

// Not thread-safe. A stage ends where another begins, and at the end.
class TokenProgress {
 public:
  using Now = std::function<std::chrono::steady_clock::time_point()>;
  // `terminal`: whether lines can be written over there.
  TokenProgress(std::ostream& out, bool terminal, Now now = std::chrono::steady_clock::now)
      : out_(out), terminal_(terminal), now_(std::move(now)) {}
  ~TokenProgress() { End(); }
  TokenProgress(const TokenProgress&) = delete;
  TokenProgress& operator=(const TokenProgress&) = delete;

  // `done` of `total` tokens of `stage`; done = 0 begins it.
  void Show(std::string_view stage, int64_t done, int64_t total);
  void End();

 private:
  // Its text without the end of the line; `elapsed` since the stage began.
  std::string Line(std::chrono::duration<double> elapsed) const;

  std::ostream& out_;
  const bool terminal_;
  const Now now_;
  std::string stage_;  // empty: between stages
  int64_t done_ = 0, total_ = 0;
  std::chrono::steady_clock::time_point began_, shown_;
};

}  // namespace dreamstate::trainer
