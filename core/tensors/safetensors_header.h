// The JSON header of a safetensors file, as declared: syntax and types are checked here, sizes and
// offsets by the reader.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {

struct SafetensorsHeader {
  struct Entry {
    std::string name;
    DType dtype;
    Shape shape;
    uint64_t begin, end;  // within the data section, unchecked
  };
  std::vector<Entry> entries;  // in the header's order; names may repeat
  std::map<std::string, std::string> metadata;
};

// Untrusted text. Memory is in proportion to `json`; nesting deeper than the format's is refused at
// once.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(const std::string& source,
                                                         std::string_view json);

}  // namespace dreamstate::tensors
