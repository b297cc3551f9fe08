#include "core/tensors/tensor_set.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/strings/str_join.h"
#include "core/base/strings.h"

namespace dreamstate::tensors {
namespace {

struct DTypeInfo {
  std::string_view name;
  size_t bytes;
};

DTypeInfo Info(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return {"f64", 8};
    case DType::kF32:
      return {"f32", 4};
    case DType::kF16:
      return {"f16", 2};
    case DType::kBF16:
      return {"bf16", 2};
    case DType::kI64:
      return {"i64", 8};
    case DType::kI32:
      return {"i32", 4};
    case DType::kI16:
      return {"i16", 2};
    case DType::kI8:
      return {"i8", 1};
    case DType::kU64:
      return {"u64", 8};
    case DType::kU32:
      return {"u32", 4};
    case DType::kU16:
      return {"u16", 2};
    case DType::kU8:
      return {"u8", 1};
    case DType::kBool:
      return {"bool", 1};
  }
  return {"unknown", 1};
}

// The i-th element of data that may be misaligned.
template <typename T>
T At(std::span<const std::byte> data, size_t i) {
  T value;
  std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
  return value;
}

float FromHalf(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal or zero: exact
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

float FromBFloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// The index of the first element whose exponent bits (`mask`) are all ones: NaN or infinity.
template <typename Bits>
std::optional<size_t> FirstNonFinite(std::span<const std::byte> data, Bits mask) {
  const size_t count = data.size() / sizeof(Bits);
  for (size_t i = 0; i < count; ++i) {
    if ((At<Bits>(data, i) & mask) == mask) return i;
  }
  return std::nullopt;
}

std::optional<size_t> FirstNonFinite(const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::kF64:
      return FirstNonFinite<uint64_t>(tensor.data, 0x7ff0000000000000u);
    case DType::kF32:
      return FirstNonFinite<uint32_t>(tensor.data, 0x7f800000u);
    case DType::kF16:
      return FirstNonFinite<uint16_t>(tensor.data, 0x7c00u);
    case DType::kBF16:
      return FirstNonFinite<uint16_t>(tensor.data, 0x7f80u);
    default:
      return std::nullopt;
  }
}

absl::Status Check(const std::string& source, const Tensor& tensor) {
  if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes) {
    return absl::InvalidArgumentError(StrCat("a tensor's name: expected 1 to ", kMaxTensorNameBytes,
                                             " bytes, found ", tensor.name.size(), " (", source,
                                             ")"));
  }
  if (tensor.shape.size() > kMaxTensorRank) {
    return absl::InvalidArgumentError(StrCat(tensor.name, ": expected at most ", kMaxTensorRank,
                                             " dimensions, found ", tensor.shape.size(), " (",
                                             source, ")"));
  }
  const std::optional<size_t> bytes = TensorBytes(tensor.dtype, tensor.shape);
  if (!bytes.has_value() || *bytes != tensor.data.size()) {
    return absl::InvalidArgumentError(
        StrCat(tensor.name, ": expected ", bytes.has_value() ? StrCat(*bytes) : "fewer than 2^63",
               " bytes for ", DTypeName(tensor.dtype), " ", ShapeString(tensor.shape), ", found ",
               tensor.data.size(), " (", source, ")"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view DTypeName(DType dtype) { return Info(dtype).name; }

size_t DTypeBytes(DType dtype) { return Info(dtype).bytes; }

std::string ShapeString(std::span<const int64_t> shape) {
  return StrCat("[", absl::StrJoin(shape.begin(), shape.end(), ", "), "]");
}

std::optional<size_t> TensorBytes(DType dtype, std::span<const int64_t> shape) {
  if (std::any_of(shape.begin(), shape.end(), [](int64_t size) { return size < 0; })) {
    return std::nullopt;
  }
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  auto bytes = static_cast<int64_t>(DTypeBytes(dtype));
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  }
  return static_cast<size_t>(bytes);
}

int64_t Tensor::elements() const { return static_cast<int64_t>(data.size() / DTypeBytes(dtype)); }

absl::StatusOr<TensorSet> TensorSet::Make(std::string source, std::vector<Tensor> tensors,
                                          std::map<std::string, std::string> metadata,
                                          std::shared_ptr<const void> memory) {
  for (const Tensor& tensor : tensors) {
    if (absl::Status status = Check(source, tensor); !status.ok()) return status;
  }
  const auto by_name = [](const Tensor& a, const Tensor& b) { return a.name < b.name; };
  std::sort(tensors.begin(), tensors.end(), by_name);
  const auto twice =
      std::adjacent_find(tensors.begin(), tensors.end(),
                         [](const Tensor& a, const Tensor& b) { return a.name == b.name; });
  if (twice != tensors.end()) {
    return absl::InvalidArgumentError(
        StrCat(twice->name, ": expected once, found twice (", source, ")"));
  }
  TensorSet set;
  set.source_ = std::move(source);
  set.tensors_ = std::move(tensors);
  set.metadata_ = std::move(metadata);
  set.memory_ = std::move(memory);
  return set;
}

const Tensor* TensorSet::Find(std::string_view name) const {
  const auto found = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const Tensor& tensor, std::string_view key) { return tensor.name < key; });
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

absl::StatusOr<const Tensor*> TensorSet::Require(std::string_view name,
                                                 std::span<const int64_t> shape) const {
  const auto expected = [&] {
    std::string text = StrCat(name, ": expected ", ShapeString(shape));
    for (size_t at; (at = text.find("-1")) != std::string::npos;) text.replace(at, 2, "any");
    return text;
  };
  const Tensor* tensor = Find(name);
  if (tensor == nullptr) {
    return absl::InvalidArgumentError(StrCat(expected(), ", found no such tensor (", source_, ")"));
  }
  const bool fits =
      std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end(),
                 [](int64_t want, int64_t have) { return want == -1 || want == have; });
  if (!fits) {
    return absl::InvalidArgumentError(StrCat(expected(), ", found ", DTypeName(tensor->dtype), " ",
                                             ShapeString(tensor->shape), " (", source_, ")"));
  }
  return tensor;
}

absl::Status ToFloat(const Tensor& tensor, std::span<float> out) {
  const auto count = static_cast<size_t>(tensor.elements());
  if (out.size() != count) {
    return absl::InvalidArgumentError(
        StrCat(tensor.name, ": expected room for ", count, " values, found ", out.size()));
  }
  switch (tensor.dtype) {
    case DType::kF64:
      for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(At<double>(tensor.data, i));
      return absl::OkStatus();
    case DType::kF32:
      if (count > 0) std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
      return absl::OkStatus();
    case DType::kF16:
      for (size_t i = 0; i < count; ++i) out[i] = FromHalf(At<uint16_t>(tensor.data, i));
      return absl::OkStatus();
    case DType::kBF16:
      for (size_t i = 0; i < count; ++i) out[i] = FromBFloat16(At<uint16_t>(tensor.data, i));
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(
          StrCat(tensor.name, ": expected f64, f32, f16 or bf16, found ", DTypeName(tensor.dtype)));
  }
}

absl::Status CheckFinite(const TensorSet& set) {
  for (const Tensor& tensor : set.tensors()) {
    if (const std::optional<size_t> index = FirstNonFinite(tensor)) {
      return absl::InvalidArgumentError(
          StrCat(tensor.name, ": expected finite values, found NaN or infinity at element ", *index,
                 " of ", DTypeName(tensor.dtype), " ", ShapeString(tensor.shape), " (",
                 set.source(), ")"));
    }
  }
  return absl::OkStatus();
}

}  // namespace dreamstate::tensors
