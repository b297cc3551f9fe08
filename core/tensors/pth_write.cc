#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/pickle_opcodes.h"
#include "core/tensors/pth.h"
#include "core/tensors/zip_archive.h"

namespace dreamstate::tensors {
namespace {

// Null for dtypes that PyTorch has no typed storage for.
const char* StorageType(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "DoubleStorage";
    case DType::kF32:
      return "FloatStorage";
    case DType::kF16:
      return "HalfStorage";
    case DType::kBF16:
      return "BFloat16Storage";
    case DType::kI64:
      return "LongStorage";
    case DType::kI32:
      return "IntStorage";
    case DType::kI16:
      return "ShortStorage";
    case DType::kI8:
      return "CharStorage";
    case DType::kU8:
      return "ByteStorage";
    case DType::kBool:
      return "BoolStorage";
    default:
      return nullptr;
  }
}

// Protocol 2, without a memo: nothing in it is shared.
class PickleWriter {
 public:
  PickleWriter() {
    Op(kPickleProto);
    bytes_.push_back(2);
  }

  void Op(uint8_t opcode) { bytes_.push_back(static_cast<char>(opcode)); }

  void Text(std::string_view text) {
    Op(kPickleBinUnicode);
    Number(text.size(), 4);
    bytes_.append(text);
  }

  void Int(int64_t value) {
    if (value >= INT32_MIN && value <= INT32_MAX) {
      Op(kPickleBinInt);
      Number(static_cast<uint64_t>(value), 4);
    } else {
      Op(kPickleLong1);
      bytes_.push_back(8);
      Number(static_cast<uint64_t>(value), 8);
    }
  }

  void Ints(std::span<const int64_t> values) {
    Op(kPickleMark);
    for (const int64_t value : values) Int(value);
    Op(kPickleTuple);
  }

  void Global(std::string_view module, std::string_view name) {
    Op(kPickleGlobal);
    StrAppend(&bytes_, module, "\n", name, "\n");
  }

  void Tensor(const tensors::Tensor& tensor, size_t storage) {
    Global("torch._utils", "_rebuild_tensor_v2");
    Op(kPickleMark);
    Op(kPickleMark);
    Text("storage");
    Global("torch", StorageType(tensor.dtype));
    Text(StrCat(storage));
    Text("cpu");
    Int(tensor.elements());
    Op(kPickleTuple);
    Op(kPickleBinPersId);
    Int(0);
    Ints(tensor.shape);
    Shape strides(tensor.shape.size());
    int64_t stride = 1;
    for (size_t i = strides.size(); i-- > 0;) {
      strides[i] = stride;
      if (tensor.shape[i] > 0) stride *= tensor.shape[i];
    }
    Ints(strides);
    Op(kPickleNewFalse);
    Global("collections", "OrderedDict");
    Op(kPickleEmptyTuple);
    Op(kPickleReduce);
    Op(kPickleTuple);
    Op(kPickleReduce);
  }

  std::string Finish() {
    Op(kPickleStop);
    return std::move(bytes_);
  }

 private:
  void Number(uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i)));
  }

  std::string bytes_;
};

absl::Status Check(const Tensor& tensor, std::string_view name) {
  if (StorageType(tensor.dtype) == nullptr) {
    return absl::InvalidArgumentError(
        StrCat(name, ": expected a dtype that .pth files have, found ", DTypeName(tensor.dtype)));
  }
  const std::optional<size_t> bytes = TensorBytes(tensor.dtype, tensor.shape);
  if (tensor.shape.size() > kMaxTensorRank || !bytes.has_value() || *bytes != tensor.data.size()) {
    return absl::InvalidArgumentError(StrCat(name, ": expected data of ", DTypeName(tensor.dtype),
                                             " ", ShapeString(tensor.shape), ", found ",
                                             tensor.data.size(), " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> SerializePth(std::span<const Tensor> tensors, PthContainer container) {
  const bool is_dict = container == PthContainer::kDict;
  PickleWriter pickle;
  std::set<std::string_view> names;
  pickle.Op(is_dict ? kPickleEmptyDict : kPickleEmptyList);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& tensor = tensors[i];
    DS_RETURN_IF_ERROR(Check(tensor, is_dict ? tensor.name : StrCat(i)));
    if (is_dict) {
      if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes ||
          !names.insert(tensor.name).second) {
        return absl::InvalidArgumentError(
            StrCat("tensor ", i, ": expected a name of its own of 1 to ", kMaxTensorNameBytes,
                   " bytes, found ", tensor.name.size(), " bytes or a second one"));
      }
      pickle.Text(tensor.name);
    }
    pickle.Tensor(tensor, i);
    pickle.Op(is_dict ? kPickleSetItem : kPickleAppend);
  }
  const std::string program = pickle.Finish();
  const auto bytes_of = [](std::string_view text) { return std::as_bytes(std::span(text)); };
  std::vector<std::string> storage_names;
  storage_names.reserve(tensors.size());  // entries point into them
  std::vector<ZipEntry> entries = {{"archive/data.pkl", bytes_of(program)},
                                   {"archive/byteorder", bytes_of("little")}};
  for (size_t i = 0; i < tensors.size(); ++i) {
    entries.push_back({storage_names.emplace_back(StrCat("archive/data/", i)), tensors[i].data});
  }
  entries.push_back({"archive/version", bytes_of("3\n")});
  return WriteZip(entries);
}

}  // namespace dreamstate::tensors
