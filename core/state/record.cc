#include "core/state/record.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>

#include "core/base/hash.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/record_json.h"
#include "core/tensors/safetensors.h"

namespace dreamstate::state {
namespace {

using tensors::DType;
using tensors::Tensor;

constexpr char kMetadata[] = "dreamstate";
constexpr char kMetadataSha256[] = "dreamstate_sha256";
constexpr char kTensorsSha256[] = "tensors_sha256";

template <typename T>
Tensor MakeTensor(const char* name, DType dtype, tensors::Shape shape,
                  const std::vector<T>& values) {
  return {name, dtype, std::move(shape), std::as_bytes(std::span(values))};
}

tensors::Shape ShiftShape(const Shape& shape) { return {shape.layers, 2, shape.width}; }
tensors::Shape WkvShape(const Shape& shape) {
  return {shape.layers, shape.heads, shape.head_size, shape.head_size};
}

// In the order in which they are hashed. Names and counts go in as well, so that bytes cannot pass
// from one to another.
std::string TensorsDigest(std::span<const Tensor> tensors) {
  Sha256 sha;
  for (const Tensor& tensor : tensors) {
    sha.Update(StrCat(tensor.name, "\n", tensor.data.size(), "\n"));
    sha.Update(tensor.data);
  }
  return sha.HexDigest();
}

std::vector<Tensor> TensorsOf(const Record& record) {
  std::vector<Tensor> tensors = {
      MakeTensor("shift", DType::kF32, ShiftShape(record.state.shape), record.state.shift),
      MakeTensor("wkv", DType::kF32, WkvShape(record.state.shape), record.state.wkv)};
  if (!record.last_hidden.empty()) {
    tensors.push_back(MakeTensor("last_hidden", DType::kF32,
                                 {static_cast<int64_t>(record.last_hidden.size())},
                                 record.last_hidden));
  }
  if (const auto& tokens = record.lineage.kept_tokens; !tokens.empty()) {
    tensors.push_back(
        MakeTensor("kept_tokens", DType::kI32, {static_cast<int64_t>(tokens.size())}, tokens));
  }
  return tensors;
}

absl::Status CheckTensors(const Record& record) {
  DS_RETURN_IF_ERROR(WithFieldPrefix(record.state.Validate(), "state"));
  const size_t width = static_cast<size_t>(record.state.shape.width);
  if (!record.last_hidden.empty() && record.last_hidden.size() != width) {
    return FieldError("last_hidden", StrCat("expected ", width, " values or none, found ",
                                            record.last_hidden.size()));
  }
  for (size_t i = 0; i < record.last_hidden.size(); ++i) {
    if (!std::isfinite(record.last_hidden[i])) {
      return FieldError("last_hidden", StrCat("channel ", i, " is ", record.last_hidden[i]));
    }
  }
  return absl::OkStatus();
}

// Copies tensor `name` out of the set. `shape` may hold -1 for any size.
template <typename T>
absl::Status Take(const tensors::TensorSet& set, const char* name, DType dtype,
                  const tensors::Shape& shape, std::vector<T>* out, std::vector<Tensor>* taken) {
  DS_ASSIGN_OR_RETURN(const Tensor* const tensor, set.Require(name, shape));
  if (tensor->dtype != dtype) {
    return absl::InvalidArgumentError(StrCat(name, ": expected ", tensors::DTypeName(dtype),
                                             ", found ", tensors::DTypeName(tensor->dtype)));
  }
  out->resize(tensor->data.size() / sizeof(T));
  if (!out->empty()) std::memcpy(out->data(), tensor->data.data(), tensor->data.size());
  taken->push_back(*tensor);
  return absl::OkStatus();
}

absl::StatusOr<Record> Parse(std::string_view source, std::string_view bytes) {
  DS_ASSIGN_OR_RETURN(
      const tensors::TensorSet set,
      tensors::ParseSafetensors(std::string(source), std::as_bytes(std::span(bytes)), nullptr));
  const auto metadata = set.metadata().find(kMetadata);
  const auto metadata_sha256 = set.metadata().find(kMetadataSha256);
  if (set.metadata().size() != 2 || metadata == set.metadata().end() ||
      metadata_sha256 == set.metadata().end()) {
    return absl::InvalidArgumentError(
        StrCat("expected the metadata ", kMetadata, " and ", kMetadataSha256));
  }
  if (Sha256Hex(metadata->second) != metadata_sha256->second) {
    return absl::InvalidArgumentError("the metadata does not have its SHA-256");
  }
  DS_ASSIGN_OR_RETURN(const nlohmann::json json, JsonFromText(metadata->second));
  DS_ASSIGN_OR_RETURN(Record record, RecordFromJson(json));
  JsonReader reader(json);
  const std::string tensors_sha256 = reader.Text(kTensorsSha256);
  DS_RETURN_IF_ERROR(reader.status());

  const Shape& shape = record.state.shape;
  std::vector<Tensor> taken;
  DS_RETURN_IF_ERROR(
      Take(set, "shift", DType::kF32, ShiftShape(shape), &record.state.shift, &taken));
  DS_RETURN_IF_ERROR(Take(set, "wkv", DType::kF32, WkvShape(shape), &record.state.wkv, &taken));
  if (set.Find("last_hidden") != nullptr) {
    DS_RETURN_IF_ERROR(
        Take(set, "last_hidden", DType::kF32, {shape.width}, &record.last_hidden, &taken));
  }
  if (set.Find("kept_tokens") != nullptr) {
    DS_RETURN_IF_ERROR(
        Take(set, "kept_tokens", DType::kI32, {-1}, &record.lineage.kept_tokens, &taken));
  }
  if (taken.size() != set.tensors().size()) {
    return absl::InvalidArgumentError("expected no tensors but a record's own");
  }
  if (TensorsDigest(taken) != tensors_sha256) {
    return absl::InvalidArgumentError("the tensors do not have their SHA-256");
  }
  DS_RETURN_IF_ERROR(CheckTensors(record));
  return record;
}

}  // namespace

std::string TokensSha256(const std::vector<int32_t>& tokens) {
  Sha256 sha;
  sha.Update(std::as_bytes(std::span(tokens)));
  return sha.HexDigest();
}

absl::StatusOr<std::string> SerializeRecord(const Record& record) {
  DS_RETURN_IF_ERROR(CheckTensors(record));
  DS_ASSIGN_OR_RETURN(nlohmann::json json, RecordToJson(record));
  const std::vector<Tensor> tensors = TensorsOf(record);
  json[kTensorsSha256] = TensorsDigest(tensors);
  DS_ASSIGN_OR_RETURN(const std::string text, JsonToText(json));
  return tensors::SerializeSafetensors(tensors,
                                       {{kMetadata, text}, {kMetadataSha256, Sha256Hex(text)}});
}

absl::StatusOr<Record> ParseRecord(std::string_view source, std::string_view bytes) {
  absl::StatusOr<Record> record = Parse(source, bytes);
  if (record.ok()) return record;
  const std::string_view reason = StdView(record.status().message());
  if (reason.find(source) != std::string_view::npos) return absl::DataLossError(AbslView(reason));
  return absl::DataLossError(StrCat(source, ": is not a whole record: ", reason));
}

}  // namespace dreamstate::state
