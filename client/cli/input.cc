#include "client/cli/input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/exit_codes.h"

namespace dreamstate::cli {
namespace {

constexpr char kStandardInput[] = "standard input";

absl::Status SystemError(const std::string& source, int error) {
  return UsageError(absl::StrCat(source, ": ", std::strerror(error)));
}

absl::Status TooLarge(const std::string& source) {
  return UsageError(
      absl::StrFormat("%s: larger than %.1f MiB, the most that one message takes; split it", source,
                      static_cast<double>(kMaxTextBytes) / (1 << 20)));
}

absl::Status CheckStat(const std::string& path, const struct stat& info) {
  if (S_ISDIR(info.st_mode))
    return UsageError(absl::StrCat(path, ": is a directory; name the files in it"));
  if (S_ISREG(info.st_mode) && info.st_size == 0)
    return UsageError(absl::StrCat(path, ": is empty"));
  if (S_ISREG(info.st_mode) && info.st_size > kMaxTextBytes) return TooLarge(path);
  return absl::OkStatus();
}

// Reads to the end; `interrupts` may be null.
absl::StatusOr<std::string> ReadAll(const std::string& source, int fd, Interrupts* interrupts) {
  std::string bytes;
  char buffer[1 << 16];
  for (;;) {
    if (interrupts != nullptr && !interrupts->WaitReadable(fd)) return absl::CancelledError("");
    const ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got < 0) {
      if (errno == EINTR) continue;
      return SystemError(source, errno);
    }
    if (got == 0) break;
    bytes.append(buffer, got);
    if (static_cast<int64_t>(bytes.size()) > kMaxTextBytes) return TooLarge(source);
  }
  if (bytes.empty()) return UsageError(absl::StrCat(source, ": is empty"));
  return bytes;
}

}  // namespace

void TextArgument::AddTo(CLI::App& command, const std::string& name,
                         const std::string& description) {
  CLI::Option* positional =
      command.add_option(name, text, description + "; - reads standard input");
  command.add_option("-f,--file", file, "Read it from this file; - reads standard input")
      ->type_name("FILE")
      ->excludes(positional);
}

absl::Status CheckFile(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return SystemError(path, errno);
  if (access(path.c_str(), R_OK) != 0) return SystemError(path, errno);
  return CheckStat(path, info);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return SystemError(path, errno);
  const absl::Cleanup closer = [fd] { close(fd); };
  struct stat info {};
  if (fstat(fd, &info) != 0) return SystemError(path, errno);
  if (absl::Status status = CheckStat(path, info); !status.ok()) return status;
  return ReadAll(path, fd, nullptr);
}

absl::StatusOr<std::string> ReadStandardInput(Interrupts& interrupts) {
  return ReadAll(kStandardInput, STDIN_FILENO, &interrupts);
}

absl::StatusOr<std::optional<std::string>> ReadText(const TextArgument& argument,
                                                    Interrupts& interrupts) {
  absl::StatusOr<std::string> bytes;
  if (argument.file && *argument.file != "-") {
    bytes = ReadFile(*argument.file);
  } else if (argument.file || (argument.text && *argument.text == "-")) {
    bytes = ReadStandardInput(interrupts);
  } else if (argument.text) {
    if (static_cast<int64_t>(argument.text->size()) > kMaxTextBytes) return TooLarge("the text");
    return argument.text;
  } else {
    return std::optional<std::string>();
  }
  if (!bytes.ok()) return bytes.status();
  return std::optional<std::string>(*std::move(bytes));
}

void NoteFileName(const TextArgument& argument, Output& output) {
  struct stat info {};
  if (!argument.text || argument.text->size() > 4096) return;
  if (stat(argument.text->c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return;
  output.Note(absl::StrCat("note: ", *argument.text, " was taken as text; --file ", *argument.text,
                           " reads the file"));
}

}  // namespace dreamstate::cli
