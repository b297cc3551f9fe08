// The safetensors format: u64 header length, JSON header, data. Files are untrusted: every offset,
// size, dtype and name is checked before it is used, memory is bounded by the file, and errors name
// file, tensor, expected and found.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {

// The header may have at most this many bytes (the format's own limit).
inline constexpr size_t kMaxSafetensorsHeaderBytes = 100'000'000;

// Maps `path`; the tensors point into the mapping.
absl::StatusOr<TensorSet> ReadSafetensors(const std::string& path);

// Parses bytes that stay alive as long as `memory`; `source` names them in errors.
absl::StatusOr<TensorSet> ParseSafetensors(std::string source, std::span<const std::byte> bytes,
                                           std::shared_ptr<const void> memory);

// The file's bytes. Tensors are written in order of name without gaps, as the format demands; the
// data section begins at a multiple of 64 bytes. INVALID_ARGUMENT for what the reader would refuse.
absl::StatusOr<std::string> SerializeSafetensors(
    std::span<const Tensor> tensors, const std::map<std::string, std::string>& metadata);

// Writes atomically (see core/base/file.h), without holding the file in memory.
absl::Status WriteSafetensors(const std::string& path, std::span<const Tensor> tensors,
                              const std::map<std::string, std::string>& metadata);

}  // namespace dreamstate::tensors
