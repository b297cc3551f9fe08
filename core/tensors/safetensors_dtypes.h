// The names that safetensors gives to dtypes; shared by its reader and writer.
#pragma once

#include <string_view>

#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {

struct SafetensorsDType {
  std::string_view name;
  DType dtype;
};

inline constexpr SafetensorsDType kSafetensorsDTypes[] = {
    {"F64", DType::kF64},   {"F32", DType::kF32}, {"F16", DType::kF16}, {"BF16", DType::kBF16},
    {"I64", DType::kI64},   {"I32", DType::kI32}, {"I16", DType::kI16}, {"I8", DType::kI8},
    {"U64", DType::kU64},   {"U32", DType::kU32}, {"U16", DType::kU16}, {"U8", DType::kU8},
    {"BOOL", DType::kBool},
};

// The header's key for the file's own metadata; no tensor may have this name.
inline constexpr std::string_view kSafetensorsMetadataKey = "__metadata__";

}  // namespace dreamstate::tensors
