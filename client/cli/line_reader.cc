#include "client/cli/line_reader.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "client/cli/exit_codes.h"
#include "client/cli/input.h"

namespace dreamstate::cli {

LineReader::LineReader(Interrupts& interrupts)
    : interrupts_(interrupts), interactive_(isatty(STDIN_FILENO) == 1) {}

absl::StatusOr<std::optional<std::string>> LineReader::Next(const std::string& prompt) {
  if (interactive_) {
    std::fputs(prompt.c_str(), stderr);
    std::fflush(stderr);
  }
  for (;;) {
    if (const size_t newline = buffer_.find('\n'); newline != std::string::npos) {
      std::string line = buffer_.substr(0, newline);
      buffer_.erase(0, newline + 1);
      return std::optional<std::string>(std::move(line));
    }
    if (ended_) {
      if (buffer_.empty()) return std::optional<std::string>();
      return std::optional<std::string>(std::exchange(buffer_, ""));
    }
    if (static_cast<int64_t>(buffer_.size()) > kMaxTextBytes) {
      return UsageError("standard input: a line is longer than one message takes");
    }
    if (!interrupts_.WaitReadable(STDIN_FILENO)) {
      if (interactive_) std::fputs("\n", stderr);
      return absl::CancelledError("");
    }
    char chunk[4096];
    const ssize_t got = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return UsageError(absl::StrCat("standard input: ", std::strerror(errno)));
    if (got == 0) ended_ = true;
    buffer_.append(chunk, static_cast<size_t>(got));
  }
}

}  // namespace dreamstate::cli
