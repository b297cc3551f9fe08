// Files that hold states and pictures: read in pieces, written whole or not at all.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/interrupts.h"

namespace dreamstate::cli {

// A file that is read at any place. Not thread-safe.
class InputFile {
 public:
  // A regular file of at least one byte, or with "-" standard input, which is first read to its end
  // into a file without a name. A usage error that names the source; CANCELLED when interrupted.
  static absl::StatusOr<std::unique_ptr<InputFile>> Open(const std::string& path,
                                                         Interrupts& interrupts);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  int64_t size() const { return size_; }
  // At most `most` bytes from `offset` on; empty at the end.
  absl::StatusOr<std::string> ReadAt(int64_t offset, size_t most) const;

 private:
  InputFile(std::string name, int fd, int64_t size);
  const std::string name_;
  const int fd_;
  const int64_t size_;
};

// Whether a file may be written under this name: a usage error when something else than a regular
// file has it, when a file has it and `replace` is false, or when its folder takes no new file.
absl::Status CheckWritable(const std::string& path, bool replace);

// A file that gets its name when it is complete; until then it lies beside it under another, and
// goes when this object does. Not thread-safe.
class OutputFile {
 public:
  // As CheckWritable; also a usage error when the directory cannot be written to.
  static absl::StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path, bool replace);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  absl::Status Append(absl::string_view bytes);
  // Forgets what was appended.
  absl::Status Restart();
  // Gives it its name. Without `replace` a file that got the name meanwhile stays, and this fails.
  absl::Status Commit();

 private:
  OutputFile(std::string path, std::string temporary, bool replace, int fd);
  const std::string path_;
  std::string temporary_;  // empty once it is gone
  const bool replace_;
  const int fd_;
};

// The whole of it in one call.
absl::Status WriteFile(const std::string& path, bool replace, absl::string_view bytes);

}  // namespace dreamstate::cli
