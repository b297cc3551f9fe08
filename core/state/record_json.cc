#include "core/state/record_json.h"

#include <cmath>
#include <limits>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::state {
namespace {

// Raised when the meaning of a member changes; readers refuse what is newer.
constexpr int kSchema = 1;
// Bounds the recursion of whatever prints or copies such a value.
constexpr int kMaxNesting = 64;
constexpr size_t kMaxName = 256;
constexpr size_t kMaxParents = 1024;
constexpr int64_t kMaxInteger = std::numeric_limits<int64_t>::max();

bool IsDigest(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// What JSON text cannot carry: numbers that are not finite, binary values, deep nesting.
absl::Status CheckArguments(const nlohmann::json& value, int nesting) {
  if (nesting > kMaxNesting) {
    return FieldError("lineage.arguments", StrCat("expected at most ", kMaxNesting, " levels"));
  }
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    return FieldError("lineage.arguments", "expected finite numbers");
  }
  if (value.is_binary() || value.is_discarded()) {
    return FieldError("lineage.arguments", "expected a value of JSON");
  }
  if (value.is_structured()) {
    for (const nlohmann::json& inner : value) {
      DS_RETURN_IF_ERROR(CheckArguments(inner, nesting + 1));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckName(std::string_view field, std::string_view text, size_t min) {
  if (text.size() >= min && text.size() <= kMaxName) return absl::OkStatus();
  return FieldError(field,
                    StrCat("expected ", min, " to ", kMaxName, " bytes, found ", text.size()));
}

absl::Status CheckRecord(const Record& record) {
  DS_RETURN_IF_ERROR(CheckName("model", record.model, 1));
  DS_RETURN_IF_ERROR(CheckName("numerics", record.numerics, 0));
  if (!IsDigest(record.fingerprint)) {
    return FieldError("fingerprint", "expected 64 lower-case hexadecimal digits");
  }
  if (record.token_count < 0) return FieldError("token_count", "expected at least 0");
  if (record.created == absl::InfinitePast() || record.created == absl::InfiniteFuture()) {
    return FieldError("created", "expected a moment");
  }
  const Lineage& lineage = record.lineage;
  DS_RETURN_IF_ERROR(CheckName("lineage.operation", lineage.operation, 0));
  if (lineage.parents.size() > kMaxParents) {
    return FieldError("lineage.parents",
                      StrCat("expected at most ", kMaxParents, ", found ", lineage.parents.size()));
  }
  if (!lineage.tokens_sha256.empty() && !IsDigest(lineage.tokens_sha256)) {
    return FieldError("lineage.tokens_sha256", "expected 64 lower-case hexadecimal digits");
  }
  if (lineage.tokens_read < 0) return FieldError("lineage.tokens_read", "expected at least 0");
  if (!lineage.arguments.is_object()) {
    return FieldError("lineage.arguments", "expected an object");
  }
  return CheckArguments(lineage.arguments, 0);
}

}  // namespace

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E9S%Ez", time, absl::UTCTimeZone());
}

absl::StatusOr<nlohmann::json> RecordToJson(const Record& record) {
  DS_RETURN_IF_ERROR(CheckRecord(record));
  const Lineage& lineage = record.lineage;
  const Shape& shape = record.state.shape;
  return nlohmann::json{{"schema", kSchema},
                        {"id", record.id},
                        {"model", record.model},
                        {"fingerprint", record.fingerprint},
                        {"numerics", record.numerics},
                        {"created", TimeText(record.created)},
                        {"token_count", record.token_count},
                        {"lineage",
                         {{"operation", lineage.operation},
                          {"parents", lineage.parents},
                          {"arguments", lineage.arguments},
                          {"tokens_sha256", lineage.tokens_sha256},
                          {"tokens_read", lineage.tokens_read}}},
                        {"shape",
                         {{"layers", shape.layers},
                          {"width", shape.width},
                          {"heads", shape.heads},
                          {"head_size", shape.head_size}}}};
}

absl::StatusOr<Record> RecordFromJson(const nlohmann::json& json) {
  Record record;
  JsonReader reader(json);
  if (const int64_t schema = reader.Integer("schema", 1, kMaxInteger); schema > kSchema) {
    reader.Fail("schema", StrCat("expected at most ", kSchema, ", found ", schema,
                                 ": written by a newer version"));
  }
  record.id = reader.Text("id");
  record.model = reader.Text("model");
  record.fingerprint = reader.Text("fingerprint");
  record.numerics = reader.Text("numerics");
  record.created = reader.Time("created");
  record.token_count = reader.Integer("token_count", 0, kMaxInteger);
  const nlohmann::json* const lineage = reader.Member("lineage");
  const nlohmann::json* const shape = reader.Member("shape");
  DS_RETURN_IF_ERROR(reader.status());

  JsonReader lineage_reader(*lineage);
  record.lineage.operation = lineage_reader.Text("operation");
  record.lineage.parents = lineage_reader.Texts("parents");
  if (const nlohmann::json* arguments = lineage_reader.Member("arguments")) {
    record.lineage.arguments = *arguments;
  }
  record.lineage.tokens_sha256 = lineage_reader.Text("tokens_sha256");
  record.lineage.tokens_read = lineage_reader.Integer("tokens_read", 0, kMaxInteger);
  DS_RETURN_IF_ERROR(WithFieldPrefix(lineage_reader.status(), "lineage"));

  constexpr int kMaxSize = std::numeric_limits<int>::max();
  JsonReader shape_reader(*shape);
  record.state.shape = {static_cast<int>(shape_reader.Integer("layers", 1, kMaxSize)),
                        static_cast<int>(shape_reader.Integer("width", 1, kMaxSize)),
                        static_cast<int>(shape_reader.Integer("heads", 1, kMaxSize)),
                        static_cast<int>(shape_reader.Integer("head_size", 1, kMaxSize))};
  DS_RETURN_IF_ERROR(WithFieldPrefix(shape_reader.status(), "shape"));
  DS_RETURN_IF_ERROR(record.state.shape.Validate());
  DS_RETURN_IF_ERROR(CheckRecord(record));
  return record;
}

absl::StatusOr<std::string> JsonToText(const nlohmann::json& json) {
  try {
    return json.dump();
  } catch (const nlohmann::json::exception&) {  // thrown for texts that are not UTF-8 alone
    return absl::InvalidArgumentError("expected texts in UTF-8");
  }
}

absl::StatusOr<nlohmann::json> JsonFromText(std::string_view text) {
  // The parser would take a NUL for the end of the text and leave the rest unread.
  if (text.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError("is not JSON: it holds a NUL");
  }
  bool too_deep = false;
  // The record's own members take two levels above the arguments.
  const auto bound = [&too_deep](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kMaxNesting + 4) too_deep = true;
    return !too_deep;
  };
  nlohmann::json json = nlohmann::json::parse(text, bound, /*allow_exceptions=*/false);
  if (json.is_discarded() || too_deep) {
    return absl::InvalidArgumentError(too_deep ? "nested too deeply" : "is not JSON");
  }
  return json;
}

JsonReader::JsonReader(const nlohmann::json& object) : object_(object) {
  if (!object.is_object()) Fail("", "expected an object");
}

void JsonReader::Fail(std::string_view name, std::string_view message) {
  if (status_.ok()) status_ = FieldError(name, message);
}

const nlohmann::json* JsonReader::Member(const char* name) {
  if (object_.is_object()) {
    if (const auto found = object_.find(name); found != object_.end()) return &*found;
  }
  Fail(name, "is missing");
  return nullptr;
}

std::string JsonReader::Text(const char* name) {
  const nlohmann::json* const member = Member(name);
  if (member == nullptr) return "";
  if (member->is_string()) return member->get<std::string>();
  Fail(name, "expected a text");
  return "";
}

int64_t JsonReader::Integer(const char* name, int64_t min, int64_t max) {
  const nlohmann::json* const member = Member(name);
  if (member == nullptr) return min;
  const bool fits = member->is_number_integer() &&
                    (!member->is_number_unsigned() ||
                     member->get<uint64_t>() <= static_cast<uint64_t>(kMaxInteger));
  const int64_t value = fits ? member->get<int64_t>() : 0;
  if (fits && value >= min && value <= max) return value;
  Fail(name, StrCat("expected an integer in [", min, ", ", max, "]"));
  return min;
}

bool JsonReader::Boolean(const char* name) {
  const nlohmann::json* const member = Member(name);
  if (member == nullptr) return false;
  if (member->is_boolean()) return member->get<bool>();
  Fail(name, "expected true or false");
  return false;
}

absl::Time JsonReader::Time(const char* name) {
  const std::string text = Text(name);
  absl::Time time;
  std::string error;
  if (absl::ParseTime(absl::RFC3339_full, text, &time, &error) && time != absl::InfinitePast() &&
      time != absl::InfiniteFuture()) {
    return time;
  }
  Fail(name, "expected a time as RFC 3339 has it");
  return absl::UnixEpoch();
}

std::vector<std::string> JsonReader::Texts(const char* name) {
  std::vector<std::string> texts;
  const nlohmann::json* const member = Member(name);
  if (member == nullptr) return texts;
  if (!member->is_array()) {
    Fail(name, "expected a list of texts");
    return texts;
  }
  for (const nlohmann::json& element : *member) {
    if (!element.is_string()) {
      Fail(name, "expected a list of texts");
      return texts;
    }
    texts.push_back(element.get<std::string>());
  }
  return texts;
}

}  // namespace dreamstate::state
