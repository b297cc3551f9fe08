// What the program prints: results on stdout, notes and errors on stderr. Colours, bars and
// filtered text only on terminals.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"

namespace dreamstate::cli {

class Output {
 public:
  struct Options {
    bool json = false;
    bool quiet = false;
  };

  Output();
  void Configure(const Options& options) { options_ = options; }

  bool json() const { return options_.json; }
  bool result_is_terminal() const { return result_is_terminal_; }
  // Whether results may be painted: on a terminal that knows colours, unless NO_COLOR is set
  // (no-color.org).
  bool colour() const { return colour_; }
  // Whether a progress line may be drawn.
  bool shows_progress() const { return notes_are_terminal_ && !options_.quiet; }

  // Result text, as it is; on a terminal control characters other than newline and tab are shown as
  // U+FFFD, because what a model writes could otherwise steer the terminal.
  void Text(absl::string_view text);
  // One result line.
  void Line(absl::string_view line);
  // One result line in bold on a terminal.
  void Heading(absl::string_view line);
  // One result line that holds escape sequences of our own; only where colour().
  void Painted(absl::string_view line);
  // Result bytes, as they are.
  void Raw(absl::string_view bytes);
  // A message as one line of JSON with Protocol Buffers' JSON names; every field without presence
  // is there.
  void Json(const google::protobuf::Message& message);
  void Flush();

  // One line for the person on stderr, unless --quiet.
  void Note(absl::string_view line);
  // One line about what went wrong on stderr, always.
  void Error(absl::string_view line);
  // Replaces the progress line; "" removes it. Only where shows_progress().
  void Progress(absl::string_view line);

  // OK when everything that was written to stdout got there.
  absl::Status Finish();

 private:
  Options options_;
  bool result_is_terminal_;
  bool notes_are_terminal_;
  bool colour_;
  bool progress_drawn_ = false;
};

std::string ToJson(const google::protobuf::Message& message);

// Rows of cells as aligned columns, two spaces between them; no trailing spaces. Columns in
// `right_aligned` hold numbers.
class Table {
 public:
  explicit Table(std::vector<std::string> header, std::vector<bool> right_aligned = {});
  void Add(std::vector<std::string> row);
  // The header and rows as lines.
  std::vector<std::string> Lines() const;
  void Print(Output& output) const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<bool> right_aligned_;
};

}  // namespace dreamstate::cli
