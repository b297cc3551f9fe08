// Standard input, line by line, so that Ctrl-C ends the wait for a line.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "client/cli/interrupts.h"

namespace dreamstate::cli {

class LineReader {
 public:
  explicit LineReader(Interrupts& interrupts);

  // Whether a person sits at the other end.
  bool interactive() const { return interactive_; }
  // The next line without its newline, nothing at the end of input, CANCELLED when interrupted.
  // `prompt` goes to stderr, for a person only. INVALID_ARGUMENT for a line that no message could
  // carry.
  absl::StatusOr<std::optional<std::string>> Next(const std::string& prompt);

 private:
  Interrupts& interrupts_;
  const bool interactive_;
  std::string buffer_;  // read, not yet handed out
  bool ended_ = false;
};

}  // namespace dreamstate::cli
