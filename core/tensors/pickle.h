// The pickles inside PyTorch's checkpoints, protocols 2 to 5. A pickle is a program for a machine
// with a stack and a memo; this machine knows only what checkpoints of tensors need (spec/rwkv7.md
// §5). A global is a name from a fixed list that stands for one of our own values: nothing is ever
// imported, called or executed. Every byte of a pickle makes at most one value of fixed size, so
// memory is bounded by the pickle.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensors/tensor_set.h"

namespace dreamstate::tensors {

// Limits on what untrusted pickles may hold; the largest published checkpoint has 2,013 tensors in
// a pickle of some 300 KB.
inline constexpr size_t kMaxPickleBytes = 64 << 20;
inline constexpr size_t kMaxPickleValues = 1 << 20;

// One value; what it refers to lies in the Pickle that it belongs to.
struct PickleValue {
  enum Kind {
    kNone,
    kBool,
    kInt,
    kFloat,
    kText,
    kTuple,
    kList,
    kDict,  // keys and values in turn; keys are kText or kInt, and may repeat
    kStorage,
    kTensor,
    kRebuildTensor,  // the globals that REDUCE takes
    kRebuildParameter,
    kOrderedDict,
    kStorageType,
  } kind = kNone;
  DType dtype = DType::kU8;  // kStorageType
  uint32_t index = 0;        // kTuple, kList, kDict: in items; kStorage, kTensor: in theirs
  int64_t number = 0;        // kBool, kInt
  std::string_view text;     // kText; points into the pickle
};

// "a list", for messages.
std::string_view PickleKindName(PickleValue::Kind kind);

struct PickleStorage {
  std::string_view key;
  DType dtype;
  int64_t elements;  // >= 0
};

// As declared: nothing is checked against the storage.
struct PickleTensor {
  uint32_t storage;
  int64_t offset;  // elements
  Shape shape;
  Shape strides;  // elements; as many as shape
};

struct Pickle {
  PickleValue root;
  std::vector<std::vector<PickleValue>> items;
  std::vector<PickleStorage> storages;  // each key once
  std::vector<PickleTensor> tensors;
  size_t bytes = 0;  // up to and with STOP
};

// The pickle at the front of `bytes`, which outlive it. INVALID_ARGUMENT naming `source`, `entry`,
// opcode, its place, expected and found.
absl::StatusOr<Pickle> ParsePickle(std::string_view source, std::string_view entry,
                                   std::span<const std::byte> bytes);

}  // namespace dreamstate::tensors
