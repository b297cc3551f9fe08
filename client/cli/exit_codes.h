// What the program's exit code says to scripts.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace dreamstate::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitRefused = 1,  // the server said no, or part of the work failed
  kExitUsage = 2,    // the command line or an input file is wrong; nothing was asked of the server
  kExitUnreachable = 3,  // no server answers
  kExitInterrupted = 130,
};

// An error of the person at the keyboard: bad flags, missing files.
absl::Status UsageError(absl::string_view message);
bool IsUsageError(const absl::Status& status);

// A part of what was asked for failed; `message` is the whole line that says so.
absl::Status PartFailedError(absl::string_view message);
bool IsPartFailedError(const absl::Status& status);

ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace dreamstate::cli
