#include "client/cli/batch_lines.h"

#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/exit_codes.h"
#include "client/names.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"

namespace dreamstate::cli {
namespace {

using nlohmann::ordered_json;

constexpr int kMaxDepth = 32;  // levels of a request are fewer

// One line, with the short forms written out.
absl::StatusOr<v1::DecodeBatchRequest> ParseLine(absl::string_view line) {
  // Writing it out again walks down its levels one call each.
  bool deep = false;
  const auto watch = [&deep](int depth, ordered_json::parse_event_t, ordered_json&) {
    deep = deep || depth > kMaxDepth;
    return !deep;
  };
  ordered_json json =
      ordered_json::parse(line.begin(), line.end(), watch, /*allow_exceptions=*/false);
  if (deep) return absl::InvalidArgumentError("is nested too deeply");
  if (!json.is_object()) return absl::InvalidArgumentError("is not a JSON object");
  if (json.find("request") == json.end()) {
    ordered_json whole = ordered_json::object();
    if (const auto id = json.find("id"); id != json.end()) {
      whole["id"] = *id;
      json.erase("id");
    }
    whole["request"] = std::move(json);
    json = std::move(whole);
  }
  if (const auto id = json.find("id"); id != json.end() && id->is_number_integer())
    *id = id->dump();
  ordered_json& request = json["request"];
  if (request.is_object()) {
    if (const auto prompt = request.find("prompt"); prompt != request.end() && prompt->is_string())
      *prompt = {{"text", *prompt}};
    if (const auto source = request.find("source"); source != request.end() && source->is_string())
      *source = {{"state", client::StateName(source->get<std::string>())}};
  }
  v1::DecodeBatchRequest parsed;
  const auto status = google::protobuf::util::JsonStringToMessage(json.dump(), &parsed);
  if (!status.ok()) return absl::InvalidArgumentError(std::string(status.message()));
  return parsed;
}

}  // namespace

absl::StatusOr<std::vector<v1::DecodeBatchRequest>> ParseBatch(const std::string& source,
                                                               absl::string_view lines,
                                                               const v1::DecodeRequest& base) {
  std::vector<v1::DecodeBatchRequest> requests;
  std::set<std::string> ids;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(lines, '\n')) {
    ++number;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    absl::StatusOr<v1::DecodeBatchRequest> request = ParseLine(line);
    if (!request.ok())
      return UsageError(absl::StrCat(source, ":", number, ": ", request.status().message()));
    if (request->id().empty()) request->set_id(absl::StrCat(number));
    if (!ids.insert(request->id()).second)
      return UsageError(
          absl::StrCat(source, ":", number, ": id '", request->id(), "' comes twice"));
    v1::DecodeRequest merged = base;
    merged.MergeFrom(request->request());
    *request->mutable_request() = std::move(merged);
    requests.push_back(*std::move(request));
  }
  if (requests.empty()) return UsageError(absl::StrCat(source, ": holds no request"));
  return requests;
}

}  // namespace dreamstate::cli
