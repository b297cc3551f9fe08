// A state as other programs write it, and our own record as a file. Files are untrusted: sizes,
// shapes and values are checked before they are used, and memory is bounded by the file and the
// shape that is expected. Little-endian throughout.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/state/record.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::state {

enum class Layout {
  kRecord,       // safetensors, see record.h
  kCanonical,    // the bare values: shift [L, 2, D], then wkv [L, H, N value, N key]
  kRwkvPackage,  // .pth, a list of 3 L tensors: for each layer the time mix's shift [D],
                 // wkv [H, N value, N key] in f32, the channel mix's shift [D]
  kTimeState,    // .pth, a dict of blocks.{i}.att.time_state [H, N value, N key]
};

// "dreamstate", "canonical", "rwkv_package", "time_state".
std::string_view LayoutName(Layout layout);
// What names of such files end with: ".safetensors", ".bin", ".pth".
std::string_view LayoutEnding(Layout layout);

struct LayoutOptions {
  std::optional<Layout> layout;  // none: told from the file
  // Of a canonical file: f32 (also when it is none), bf16 or f16. Other files say it themselves.
  std::optional<tensors::DType> dtype;
  bool transposed = false;  // the matrices of a .pth file are [N key, N value]
};

struct StateFile {
  Layout layout = Layout::kRecord;
  tensors::DType dtype = tensors::DType::kF32;  // of the values; kRwkvPackage: of the shifts
  Record record;                                // kRecord: all of it; otherwise its state alone
};

// INVALID_ARGUMENT ("dtype", "transposed") for options that do not go together.
absl::Status CheckLayoutOptions(const LayoutOptions& options);

// No file of a state of that shape, with so many kept tokens, has more bytes.
int64_t MostFileBytes(const Shape& shape, const LayoutOptions& options, int64_t kept_tokens);

// INVALID_ARGUMENT, naming `source`, tensor, expected and found where they are known, for whatever
// is no whole file of a finite state, or, but for a record, no state of `shape`. As
// CheckLayoutOptions for options that do not go with the layout that was told from the file.
absl::StatusOr<StateFile> ReadStateFile(std::string_view source, std::string_view bytes,
                                        const Shape& shape, const LayoutOptions& options);

// The file's bytes. No dtype: the layout's own, which is f32, and bf16 for the shifts of
// kRwkvPackage. INVALID_ARGUMENT ("dtype") for a dtype that the layout cannot have, or that cannot
// hold the values; as SerializeRecord.
absl::StatusOr<std::string> WriteStateFile(const Record& record, Layout layout,
                                           std::optional<tensors::DType> dtype);

}  // namespace dreamstate::state
