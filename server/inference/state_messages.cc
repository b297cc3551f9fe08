#include "server/inference/state_messages.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/resource_names.h"

namespace dreamstate::server {
namespace {

constexpr size_t kFingerprintDigits = 64;

void ToValueMessage(const nlohmann::json& value, google::protobuf::Value* out) {
  switch (value.type()) {
    case nlohmann::json::value_t::object:
      ToStructMessage(value, out->mutable_struct_value());
      break;
    case nlohmann::json::value_t::array:
      out->mutable_list_value();
      for (const nlohmann::json& item : value) {
        ToValueMessage(item, out->mutable_list_value()->add_values());
      }
      break;
    case nlohmann::json::value_t::string:
      out->set_string_value(value.get_ref<const std::string&>());
      break;
    case nlohmann::json::value_t::boolean:
      out->set_bool_value(value.get<bool>());
      break;
    case nlohmann::json::value_t::number_integer:
    case nlohmann::json::value_t::number_unsigned:
    case nlohmann::json::value_t::number_float:
      out->set_number_value(value.get<double>());
      break;
    default:
      out->set_null_value(google::protobuf::NULL_VALUE);
  }
}

std::string FloatBytes(const std::vector<float>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

absl::StatusOr<std::vector<float>> FloatsOf(std::string_view field, const std::string& bytes,
                                            int64_t expected_elements) {
  if (bytes.size() != static_cast<size_t>(expected_elements) * sizeof(float)) {
    return FieldError(field, StrCat("expected ", expected_elements, " fp32 values (",
                                    expected_elements * sizeof(float), " bytes), found ",
                                    bytes.size(), " bytes"));
  }
  std::vector<float> values(static_cast<size_t>(expected_elements));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

bool IsFingerprint(std::string_view text) {
  return text.size() == kFingerprintDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

google::protobuf::Timestamp ToTimestampMessage(absl::Time time) {
  google::protobuf::Timestamp message;
  const absl::Duration since_epoch = time - absl::UnixEpoch();
  absl::Duration rest;
  message.set_seconds(absl::IDivDuration(since_epoch, absl::Seconds(1), &rest));
  message.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return message;
}

void ToStructMessage(const nlohmann::json& object, google::protobuf::Struct* out) {
  if (!object.is_object()) return;
  for (const auto& [key, value] : object.items()) {
    ToValueMessage(value, &(*out->mutable_fields())[key]);
  }
}

v1::StateShape ToMessage(const state::Shape& shape) {
  v1::StateShape message;
  message.set_layers(shape.layers);
  message.set_width(shape.width);
  message.set_heads(shape.heads);
  message.set_head_size(shape.head_size);
  return message;
}

v1::State ToMessage(const state::Description& description) {
  const state::Record& record = description.record;
  v1::State message;
  message.set_name(StateResourceName(record.id));
  message.set_model(ModelResourceName(record.model));
  message.set_backbone_fingerprint(record.fingerprint);
  *message.mutable_created() = ToTimestampMessage(record.created);
  if (description.expires) *message.mutable_expires() = ToTimestampMessage(*description.expires);
  for (const std::string& label : description.labels) message.add_labels(label);
  message.set_token_count(record.token_count);
  message.set_bytes(description.bytes);
  message.set_has_last_hidden(description.has_last_hidden);
  message.set_numerics(record.numerics);
  v1::Lineage* lineage = message.mutable_lineage();
  lineage->set_operation(record.lineage.operation);
  for (const std::string& parent : record.lineage.parents) {
    lineage->add_parents(StateResourceName(parent));
  }
  ToStructMessage(record.lineage.arguments, lineage->mutable_arguments());
  lineage->set_tokens_sha256(record.lineage.tokens_sha256);
  lineage->set_tokens_read(record.lineage.tokens_read);
  for (const int32_t token : record.lineage.kept_tokens) lineage->add_kept_tokens(token);
  message.set_etag(description.etag);
  message.set_deleted(description.deleted);
  *message.mutable_shape() = ToMessage(record.state.shape);
  return message;
}

v1::StateTensors ToTensorsMessage(const state::Record& record) {
  v1::StateTensors message;
  *message.mutable_shape() = ToMessage(record.state.shape);
  message.set_backbone_fingerprint(record.fingerprint);
  message.set_shift(FloatBytes(record.state.shift));
  message.set_wkv(FloatBytes(record.state.wkv));
  message.set_last_hidden(FloatBytes(record.last_hidden));
  message.set_token_count(record.token_count);
  return message;
}

absl::StatusOr<state::Record> FromTensorsMessage(const v1::StateTensors& message) {
  state::Record record;
  const v1::StateShape& shape = message.shape();
  record.state.shape = {.layers = shape.layers(),
                        .width = shape.width(),
                        .heads = shape.heads(),
                        .head_size = shape.head_size()};
  DS_RETURN_IF_ERROR(record.state.shape.Validate());
  if (!IsFingerprint(message.backbone_fingerprint())) {
    return FieldError("backbone_fingerprint", "expected 64 lower-case hexadecimal digits");
  }
  record.fingerprint = message.backbone_fingerprint();
  DS_ASSIGN_OR_RETURN(record.state.shift,
                      FloatsOf("shift", message.shift(), record.state.shape.shift_elements()));
  DS_ASSIGN_OR_RETURN(record.state.wkv,
                      FloatsOf("wkv", message.wkv(), record.state.shape.wkv_elements()));
  if (!message.last_hidden().empty()) {
    DS_ASSIGN_OR_RETURN(record.last_hidden,
                        FloatsOf("last_hidden", message.last_hidden(), shape.width()));
    for (const float value : record.last_hidden) {
      if (!(value - value == 0.0f)) return FieldError("last_hidden", "values must be finite");
    }
  }
  DS_RETURN_IF_ERROR(record.state.Validate());
  // Far above any text, and far enough below the type's limit for tokens to be added.
  constexpr int64_t kMaxTokens = int64_t{1} << 53;
  if (message.token_count() < 0 || message.token_count() > kMaxTokens) {
    return FieldError("token_count",
                      StrCat("expected 0 to ", kMaxTokens, ", found ", message.token_count()));
  }
  record.token_count = message.token_count();
  return record;
}

absl::StatusOr<absl::Duration> FromDurationMessage(std::string_view field,
                                                   const google::protobuf::Duration& message) {
  constexpr int32_t kNanosPerSecond = 1'000'000'000;
  constexpr int64_t kMaxSeconds = 315'576'000'000;  // google.protobuf.Duration's own range
  const bool same_sign = (message.seconds() >= 0 && message.nanos() >= 0) ||
                         (message.seconds() <= 0 && message.nanos() <= 0);
  if (message.nanos() <= -kNanosPerSecond || message.nanos() >= kNanosPerSecond || !same_sign ||
      message.seconds() > kMaxSeconds || message.seconds() < -kMaxSeconds) {
    return FieldError(field, "not a valid google.protobuf.Duration");
  }
  return absl::Seconds(message.seconds()) + absl::Nanoseconds(message.nanos());
}

absl::StatusOr<absl::Time> FromTimestampMessage(std::string_view field,
                                                const google::protobuf::Timestamp& message) {
  // From year 1 to 9999, google.protobuf.Timestamp's own range.
  constexpr int64_t kMinSeconds = -62'135'596'800, kMaxSeconds = 253'402'300'799;
  constexpr int32_t kNanosPerSecond = 1'000'000'000;
  if (message.seconds() < kMinSeconds || message.seconds() > kMaxSeconds || message.nanos() < 0 ||
      message.nanos() >= kNanosPerSecond) {
    return FieldError(field, "not a valid google.protobuf.Timestamp");
  }
  return absl::FromUnixSeconds(message.seconds()) + absl::Nanoseconds(message.nanos());
}

absl::StatusOr<state::Annotations> FromMessage(const v1::Annotations& message) {
  state::Annotations annotations;
  annotations.labels.assign(message.labels().begin(), message.labels().end());
  if (message.has_time_to_live()) {
    DS_ASSIGN_OR_RETURN(annotations.time_to_live,
                        FromDurationMessage("time_to_live", message.time_to_live()));
  }
  DS_RETURN_IF_ERROR(state::NormaliseAnnotations(&annotations));
  return annotations;
}

}  // namespace dreamstate::server
