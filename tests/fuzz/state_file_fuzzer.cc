// A state file of any layout, a .pth without checksums (which would refuse every mutation). What is
// taken must be a finite state of the shape, and must come back when it is written again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/state/layouts.h"
#include "core/tensors/pth.h"
#include "tests/core/tensors/pth_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace dreamstate;
  if (size < 1) return 0;
  const uint8_t choice = data[0];
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string bytes = tensors::LooksLikePth(input)
                                ? tensors::testing::WithoutChecksums(std::string(input))
                                : std::string(input);
  constexpr state::Shape kShape{.layers = 2, .width = 4, .heads = 2, .head_size = 2};
  state::LayoutOptions options;
  if ((choice & 7) < 4) options.layout = static_cast<state::Layout>(choice & 3);
  options.transposed = (choice & 8) != 0;
  if ((choice & 16) != 0) options.dtype = tensors::DType::kF16;
  const auto file = state::ReadStateFile("fuzz", bytes, kShape, options);
  if (!file.ok()) {
    if (file.status().code() != absl::StatusCode::kInvalidArgument) abort();
    return 0;
  }
  if (!file->record.state.Validate().ok()) abort();
  if (file->layout != state::Layout::kRecord && file->record.state.shape != kShape) abort();
  const auto again =
      state::WriteStateFile(file->record, state::Layout::kCanonical, tensors::DType::kF32);
  if (!again.ok()) abort();
  const auto back = state::ReadStateFile("again", *again, file->record.state.shape,
                                         {.layout = state::Layout::kCanonical});
  if (!back.ok() || back->record.state != file->record.state) abort();
  return 0;
}
