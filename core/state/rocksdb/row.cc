#include "core/state/rocksdb/row.h"

#include <limits>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/record_json.h"

namespace dreamstate::state {

absl::StatusOr<std::string> RowToText(const Row& row) {
  const Description& description = row.description;
  DS_ASSIGN_OR_RETURN(nlohmann::json record, RecordToJson(description.record));
  nlohmann::json json = {
      {"record", std::move(record)},    {"has_last_hidden", description.has_last_hidden},
      {"bytes", description.bytes},     {"stored_bytes", row.stored_bytes},
      {"labels", description.labels},   {"revision", row.revision},
      {"deleted", description.deleted}, {"damage", row.damage}};
  if (description.expires.has_value()) {
    json["expires_us"] = absl::ToUnixMicros(*description.expires);
  }
  return JsonToText(json);
}

absl::StatusOr<Row> RowFromText(std::string_view text) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  DS_ASSIGN_OR_RETURN(const nlohmann::json json, JsonFromText(text));
  Row row;
  Description& description = row.description;
  JsonReader reader(json);
  const nlohmann::json* const record = reader.Member("record");
  description.has_last_hidden = reader.Boolean("has_last_hidden");
  description.bytes = reader.Integer("bytes", 0, kMax);
  row.stored_bytes = reader.Integer("stored_bytes", 0, kMax);
  description.labels = reader.Texts("labels");
  row.revision = reader.Integer("revision", 1, kMax);
  description.deleted = reader.Boolean("deleted");
  row.damage = reader.Text("damage");
  if (json.is_object() && json.contains("expires_us")) {
    description.expires = absl::FromUnixMicros(reader.Integer("expires_us", 0, kMax));
  }
  DS_RETURN_IF_ERROR(reader.status());
  DS_ASSIGN_OR_RETURN(description.record, RecordFromJson(*record));
  description.etag = StrCat(row.revision);
  return row;
}

}  // namespace dreamstate::state
