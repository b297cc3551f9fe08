// Named tensors of one file, and looking them up with errors that say what a person needs:
//   blocks.3.att.key.weight: expected [768, 768], found f16 [768, 1024] (model.safetensors)
// Owns (or shares) the memory that the tensors point into. Immutable, thread-safe, cheap to copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/stopping.h"

namespace dreamstate::tensors {

enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU64, kU32, kU16, kU8, kBool };

// "f32", "bf16", …
std::string_view DTypeName(DType dtype);
size_t DTypeBytes(DType dtype);

// Limits on what untrusted files may declare.
inline constexpr size_t kMaxTensorRank = 8;
inline constexpr size_t kMaxTensorNameBytes = 1024;

using Shape = std::vector<int64_t>;
// "[768, 768]"
std::string ShapeString(std::span<const int64_t> shape);
// product(shape) * DTypeBytes(dtype); nothing when a size is negative or the product does not fit.
std::optional<size_t> TensorBytes(DType dtype, std::span<const int64_t> shape);

struct Tensor {
  std::string name;
  DType dtype;
  Shape shape;  // row-major; an empty shape is a scalar
  std::span<const std::byte>
      data;  // little-endian, exactly product(shape) * DTypeBytes(dtype) bytes; may be misaligned

  int64_t elements() const;
};

class TensorSet {
 public:
  TensorSet() = default;
  // `source` names the file in errors. `memory` keeps what the tensors point into alive.
  // INVALID_ARGUMENT for a name that occurs twice, is empty or too long, a rank over the limit, or
  // data whose size does not fit its shape.
  static absl::StatusOr<TensorSet> Make(std::string source, std::vector<Tensor> tensors,
                                        std::map<std::string, std::string> metadata,
                                        std::shared_ptr<const void> memory);

  const std::string& source() const { return source_; }
  // Sorted by name.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Null when there is none.
  const Tensor* Find(std::string_view name) const;
  // INVALID_ARGUMENT naming tensor, expected and found shape; -1 in `shape` fits any size.
  absl::StatusOr<const Tensor*> Require(std::string_view name,
                                        std::span<const int64_t> shape) const;

 private:
  std::string source_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
  std::shared_ptr<const void> memory_;
};

// Converts f64, f32, f16 or bf16 to fp32 (exact but for f64); INVALID_ARGUMENT for another dtype.
// `out` has tensor.elements().
absl::Status ToFloat(const Tensor& tensor, std::span<float> out);

// INVALID_ARGUMENT naming the first tensor, and index in it, that is NaN or infinite.
absl::Status CheckFinite(const TensorSet& set);

// SHA-256 over the tensors in order of name: name, dtype, shape, bytes. Names a model whatever file
// it comes from.
std::string Fingerprint(const TensorSet& set);
// The same, unless it is told to stop: CANCELLED.
absl::StatusOr<std::string> Fingerprint(const TensorSet& set, const Stopping& stopping);

}  // namespace dreamstate::tensors
