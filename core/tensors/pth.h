// PyTorch's checkpoint files (torch.save): a zip archive whose pickle names tensors. Pickles are
// programs, and these come from strangers: a small reader of our own understands the opcodes and
// globals that checkpoints need (spec/rwkv7.md §5) and executes nothing; everything else is
// refused by name. Memory is bounded by the file, and tensor data stays where it is: mapped, not
// copied, unless it is strided.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {

// Limits on what untrusted files may hold: a memoised tensor takes two bytes wherever it is named
// again. All names together may be as long as the file, and this much longer.
inline constexpr size_t kMaxPthTensors = 1 << 16;
inline constexpr size_t kMaxPthSpareNameBytes = 1 << 20;

// Whether bytes begin as a zip archive or as the format before PyTorch 1.6.
bool LooksLikePth(std::string_view start);

// The tensors of a dict under its keys, of a list under "0", "1", …, of nested ones under both
// joined by ".". Of a dict that has a dict under "state_dict" or "model" only that one is read,
// with no name before its keys: what lies beside it is a trainer's. Values that are no tensors are
// left out. INVALID_ARGUMENT naming `source`, entry or opcode, expected and found; among others for
// code, compression, cycles, a name twice, views that are larger than the file, more tensors or
// names than fit the limits, and data that does not have the checksum of its zip entry.
absl::StatusOr<TensorSet> ParsePth(std::string source, std::span<const std::byte> bytes,
                                   std::shared_ptr<const void> memory);
// The same of a file, mapped.
absl::StatusOr<TensorSet> ReadPth(const std::string& path);

// What torch.load(weights_only=True) reads as a list of tensors, or as a dict of their names.
enum class PthContainer { kList, kDict };
// In the order given. f64, f32, f16, bf16, i64, i32, i16, i8, u8 and bool.
absl::StatusOr<std::string> SerializePth(std::span<const Tensor> tensors, PthContainer container);

}  // namespace dreamstate::tensors
