// A run's log (log.jsonl) and the curves that are drawn from it (curves.csv, curves.png).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace dreamstate::training {

// Appends lines to <run>/log.jsonl. Not thread-safe.
class RunLog {
 public:
  // Lines of steps after `step` are cut off, and so is a line that a killed run left half.
  static absl::StatusOr<RunLog> Open(const std::string& run, int64_t step);
  RunLog(RunLog&&) noexcept;
  RunLog& operator=(RunLog&&) = delete;
  ~RunLog();

  // One line. What cannot be written (a full disk) waits, and is tried again with the next line.
  absl::Status Append(const nlohmann::json& line);
  // All lines to the disk.
  absl::Status Sync();

 private:
  RunLog(std::string path, int file) : path_(std::move(path)), file_(file) {}
  absl::Status Flush();
  std::string path_;
  int file_;
  std::string waiting_;  // not written yet
};

// Rewrites curves.csv (step, tokens, loss, lr, validation loss) and curves.png from the log.
absl::Status WriteCurves(const std::string& run);

}  // namespace dreamstate::training
