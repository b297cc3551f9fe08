// Texts that a person names on the command line: an argument, a file, or "-" for standard input.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/interrupts.h"
#include "client/cli/output.h"

namespace dreamstate::cli {

// A text must fit one message beside the request's other fields.
inline constexpr int64_t kMaxTextBytes = (16 << 20) - (64 << 10);

// What a command was given. At most one of the two may be set.
struct TextArgument {
  std::optional<std::string> text;  // "-" = standard input
  std::optional<std::string> file;  // "-" = standard input

  // Adds the positional `name` and --file to `command`.
  void AddTo(CLI::App& command, const std::string& name, const std::string& description);
};

// All errors are usage errors of one line that names the source.

// Whether `path` can be read as a text, without reading it: missing, a directory, empty, too large,
// not permitted.
absl::Status CheckFile(const std::string& path);
// The file's bytes; at least one.
absl::StatusOr<std::string> ReadFile(const std::string& path);
// Standard input to its end; at least one byte. CANCELLED when interrupted.
absl::StatusOr<std::string> ReadStandardInput(Interrupts& interrupts);
// What `argument` names; nothing when neither form is set.
absl::StatusOr<std::optional<std::string>> ReadText(const TextArgument& argument,
                                                    Interrupts& interrupts);
// Notes when the text is the name of a file: somebody may have meant --file.
void NoteFileName(const TextArgument& argument, Output& output);

}  // namespace dreamstate::cli
