// What a record says about itself, as JSON: the "dreamstate" metadata of its file and the
// description that the store keeps beside it. One definition for both, so that they cannot differ.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/state/record.h"
#include "nlohmann/json.hpp"

namespace dreamstate::state {

// Everything but the tensors. INVALID_ARGUMENT naming the field when a value is outside what a
// record may hold.
absl::StatusOr<nlohmann::json> RecordToJson(const Record& record);

// The inverse; the record's tensors are empty. INVALID_ARGUMENT naming what is missing or wrong.
absl::StatusOr<Record> RecordFromJson(const nlohmann::json& json);

// As text. INVALID_ARGUMENT when a string in it is not UTF-8.
absl::StatusOr<std::string> JsonToText(const nlohmann::json& json);

// From text of any origin: nesting is bounded. INVALID_ARGUMENT when it is not JSON.
absl::StatusOr<nlohmann::json> JsonFromText(std::string_view text);

// Reads members of one object; the first thing that is wrong stays in status().
class JsonReader {
 public:
  explicit JsonReader(const nlohmann::json& object);
  std::string Text(const char* name);
  int64_t Integer(const char* name, int64_t min, int64_t max);
  bool Boolean(const char* name);
  absl::Time Time(const char* name);
  std::vector<std::string> Texts(const char* name);
  // Null when it is missing.
  const nlohmann::json* Member(const char* name);
  void Fail(std::string_view name, std::string_view message);
  const absl::Status& status() const { return status_; }

 private:
  const nlohmann::json& object_;
  absl::Status status_;
};

// RFC 3339 in UTC, to the nanosecond.
std::string TimeText(absl::Time time);

}  // namespace dreamstate::state
