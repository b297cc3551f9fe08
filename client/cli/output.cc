#include "client/cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/rpc_status.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"

namespace dreamstate::cli {
namespace {

void Write(std::FILE* stream, absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
}

std::string Harmless(absl::string_view text) {
  constexpr absl::string_view kReplacement = "\uFFFD";
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f) {
      absl::StrAppend(&shown, kReplacement);
    } else if (byte == 0xc2 && i + 1 < text.size() &&
               static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      absl::StrAppend(&shown, kReplacement);  // C1 controls, U+0080 to U+009F
      ++i;
    } else {
      shown.push_back(text[i]);
    }
  }
  return shown;
}

size_t Columns(absl::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

bool KnowsColours() {
  const char* const no_color = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  return (no_color == nullptr || *no_color == '\0') && terminal != nullptr && *terminal != '\0' &&
         std::strcmp(terminal, "dumb") != 0;
}

}  // namespace

Output::Output()
    : result_is_terminal_(isatty(STDOUT_FILENO) == 1),
      notes_are_terminal_(isatty(STDERR_FILENO) == 1),
      colour_(result_is_terminal_ && KnowsColours()) {}

void Output::Text(absl::string_view text) {
  Progress("");
  Write(stdout, result_is_terminal_ ? Harmless(text) : std::string(text));
}

void Output::Line(absl::string_view line) {
  Text(line);
  Write(stdout, "\n");
  Flush();
}

void Output::Heading(absl::string_view line) {
  if (result_is_terminal_) Write(stdout, "\033[1m");
  Text(line);
  Write(stdout, result_is_terminal_ ? "\033[0m\n" : "\n");
  Flush();
}

void Output::Painted(absl::string_view line) {
  Progress("");
  Write(stdout, line);
  Write(stdout, "\n");
  Flush();
}

void Output::Raw(absl::string_view bytes) { Write(stdout, bytes); }

void Output::Json(const google::protobuf::Message& message) { Line(ToJson(message)); }

void Output::Flush() { std::fflush(stdout); }

void Output::Note(absl::string_view line) {
  if (options_.quiet) return;
  Flush();
  Progress("");
  Write(stderr, absl::StrCat(client::OneLine(line), "\n"));
}

void Output::Error(absl::string_view line) {
  Flush();
  Progress("");
  Write(stderr, absl::StrCat("dreamstate: ", client::OneLine(line), "\n"));
}

void Output::Progress(absl::string_view line) {
  if (!shows_progress() || (line.empty() && !progress_drawn_)) return;
  Write(stderr, absl::StrCat("\r\033[K", client::OneLine(line)));
  progress_drawn_ = !line.empty();
}

absl::Status Output::Finish() {
  Progress("");
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("standard output: ", std::strerror(errno)));
}

namespace {

// Fields that are maps, which Protocol Buffers print in another order at each call.
constexpr const char* kMapFields[] = {"arguments", "metrics", "matricesByFormat"};

void SortMaps(nlohmann::ordered_json* value) {
  for (nlohmann::ordered_json& part : *value) {
    if (part.is_structured()) SortMaps(&part);
  }
  if (!value->is_object()) return;
  for (const char* const field : kMapFields) {
    // Objects of nlohmann::json are in order of their keys.
    if (value->contains(field)) (*value)[field] = nlohmann::json((*value)[field]);
  }
  // Nearly every answer leaves the tokens out where they are kept: empty says nothing.
  if (value->contains("keptTokens") && (*value)["keptTokens"].empty()) value->erase("keptTokens");
}

// `json` with the keys of its maps in order.
std::string WithSortedMaps(std::string json) {
  const bool has_maps = std::any_of(
      std::begin(kMapFields), std::end(kMapFields),
      [&](const char* field) { return absl::StrContains(json, absl::StrCat("\"", field, "\":")); });
  if (!has_maps && !absl::StrContains(json, "\"keptTokens\":")) return json;
  nlohmann::ordered_json parsed =
      nlohmann::ordered_json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return json;
  SortMaps(&parsed);
  return parsed.dump();
}

}  // namespace

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(message, &json, options).ok()) return "{}";
  return WithSortedMaps(std::move(json));
}

Table::Table(std::vector<std::string> header, std::vector<bool> right_aligned)
    : right_aligned_(std::move(right_aligned)) {
  right_aligned_.resize(header.size(), false);
  rows_.push_back(std::move(header));
}

void Table::Add(std::vector<std::string> row) {
  row.resize(right_aligned_.size());
  for (std::string& cell : row) cell = client::OneLine(cell);
  rows_.push_back(std::move(row));
}

std::vector<std::string> Table::Lines() const {
  std::vector<size_t> widths(right_aligned_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], Columns(row[c]));
  }
  std::vector<std::string> lines;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string padding(widths[c] - Columns(row[c]), ' ');
      if (c > 0) line.append("  ");
      line.append(right_aligned_[c] ? padding + row[c] : row[c] + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back(std::move(line));
  }
  return lines;
}

void Table::Print(Output& output) const {
  const std::vector<std::string> lines = Lines();
  output.Heading(lines[0]);
  for (size_t i = 1; i < lines.size(); ++i) output.Line(lines[i]);
}

}  // namespace dreamstate::cli
