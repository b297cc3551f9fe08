#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/safetensors.h"
#include "core/tensors/safetensors_dtypes.h"
#include "nlohmann/json.hpp"

namespace dreamstate::tensors {
namespace {

constexpr size_t kAlignment = 64;

std::string_view NameOf(DType dtype) {
  const auto* found = std::find_if(std::begin(kSafetensorsDTypes), std::end(kSafetensorsDTypes),
                                   [dtype](const auto& known) { return known.dtype == dtype; });
  return found->name;
}

// What goes into the file: length and header, then the tensors' own bytes in order.
struct Layout {
  std::string head;
  std::vector<std::span<const std::byte>> data;
  size_t bytes = 0;
};

absl::StatusOr<Layout> Arrange(std::span<const Tensor> tensors,
                               const std::map<std::string, std::string>& metadata) {
  // Make sorts and checks names, shapes and sizes.
  DS_ASSIGN_OR_RETURN(const TensorSet set,
                      TensorSet::Make("to be written", {tensors.begin(), tensors.end()}, {}, {}));
  Layout layout;
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header[std::string(kSafetensorsMetadataKey)] = metadata;
  for (const Tensor& tensor : set.tensors()) {
    if (tensor.name == kSafetensorsMetadataKey) {
      return absl::InvalidArgumentError(
          StrCat(tensor.name, ": expected another name for a tensor; the format uses this one"));
    }
    const size_t begin = std::exchange(layout.bytes, layout.bytes + tensor.data.size());
    header[tensor.name] = {{"dtype", std::string(NameOf(tensor.dtype))},
                           {"shape", tensor.shape},
                           {"data_offsets", {begin, layout.bytes}}};
    layout.data.push_back(tensor.data);
  }
  std::string json;
  try {
    json = header.dump();
  } catch (const nlohmann::json::exception&) {  // thrown for texts that are not UTF-8 alone
    return absl::InvalidArgumentError("safetensors: names and metadata must be UTF-8");
  }
  constexpr size_t kLengthBytes = 8;
  json.append((kAlignment - (kLengthBytes + json.size()) % kAlignment) % kAlignment, ' ');
  if (json.size() > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(StrCat("safetensors: expected a header of at most ",
                                             kMaxSafetensorsHeaderBytes, " bytes, found ",
                                             json.size()));
  }
  for (size_t i = 0; i < kLengthBytes; ++i) {
    layout.head.push_back(static_cast<char>(uint64_t{json.size()} >> (8 * i)));
  }
  layout.head += json;
  layout.bytes += layout.head.size();
  return layout;
}

}  // namespace

absl::StatusOr<std::string> SerializeSafetensors(
    std::span<const Tensor> tensors, const std::map<std::string, std::string>& metadata) {
  DS_ASSIGN_OR_RETURN(const Layout layout, Arrange(tensors, metadata));
  std::string bytes;
  bytes.reserve(layout.bytes);
  bytes += layout.head;
  for (const std::span<const std::byte> piece : layout.data) {
    bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  }
  return bytes;
}

absl::Status WriteSafetensors(const std::string& path, std::span<const Tensor> tensors,
                              const std::map<std::string, std::string>& metadata) {
  DS_ASSIGN_OR_RETURN(Layout layout, Arrange(tensors, metadata));
  layout.data.insert(layout.data.begin(), std::as_bytes(std::span(layout.head)));
  return WriteFileAtomically(path, layout.data);
}

}  // namespace dreamstate::tensors
