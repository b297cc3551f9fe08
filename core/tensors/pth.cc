#include "core/tensors/pth.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/pickle.h"
#include "core/tensors/pth_storages.h"

namespace dreamstate::tensors {
namespace {

using Value = PickleValue;

constexpr int kMaxDepth = 16;
// A dict with one of these in it is a training checkpoint around the model's own.
constexpr std::array<std::string_view, 2> kWrappers = {"state_dict", "model"};

std::string Shown(std::string_view text) {
  constexpr size_t kShown = 128;
  return absl::CHexEscape(AbslView(text.substr(0, kShown)));
}

// Gives every tensor that can be reached from a pickle's root its name and bytes.
class Collector {
 public:
  Collector(std::string source, const Pickle& pickle, const PthStorages& storages)
      : source_(std::move(source)),
        pickle_(pickle),
        storages_(storages),
        visits_(pickle.items.size(), Visit::kNone) {
    memory_->file = storages.memory;
  }

  absl::StatusOr<TensorSet> Collect();

 private:
  enum class Visit : uint8_t { kNone, kInside, kWithoutTensors, kWithTensors };

  // What the tensors point into: the file, and what lay strided in it.
  struct Memory {
    std::shared_ptr<const void> file;
    std::vector<std::vector<std::byte>> gathered;
  };

  absl::Status Refuse(std::string_view subject, std::string_view problem) const {
    return absl::InvalidArgumentError(StrCat(Shown(subject), ": ", problem, " (", source_, ")"));
  }
  Value Unwrapped(Value value) const;
  absl::Status Walk(const std::string& name, const Value& value, int depth);
  absl::Status WalkItems(const std::string& name, const Value& value, int depth);
  absl::Status CountName(const std::string& name);
  absl::Status AddTensor(const std::string& name, const PickleTensor& tensor);
  absl::StatusOr<std::span<const std::byte>> Gather(const std::string& name,
                                                    const PickleTensor& tensor, DType dtype,
                                                    std::span<const std::byte> storage);

  std::string source_;
  const Pickle& pickle_;
  const PthStorages& storages_;
  std::vector<Visit> visits_;  // of pickle_.items
  std::vector<Tensor> tensors_;
  std::shared_ptr<Memory> memory_ = std::make_shared<Memory>();
  size_t gathered_bytes_ = 0;
  size_t name_bytes_ = 0;
};

Value Collector::Unwrapped(Value value) const {
  for (int depth = 0; depth < kMaxDepth && value.kind == Value::kDict; ++depth) {
    const std::vector<Value>& items = pickle_.items[value.index];
    std::optional<Value> inner;
    for (size_t i = 0; i < items.size() && !inner.has_value(); i += 2) {
      if (items[i].kind == Value::kText && items[i + 1].kind == Value::kDict &&
          std::find(kWrappers.begin(), kWrappers.end(), items[i].text) != kWrappers.end()) {
        inner = items[i + 1];
      }
    }
    if (!inner.has_value()) break;
    value = *inner;
  }
  return value;
}

absl::Status Collector::Walk(const std::string& name, const Value& value, int depth) {
  if (value.kind == Value::kTensor) return AddTensor(name, pickle_.tensors[value.index]);
  if (value.kind != Value::kTuple && value.kind != Value::kList && value.kind != Value::kDict) {
    return absl::OkStatus();
  }
  if (depth == kMaxDepth) {
    return Refuse(name, StrCat("expected at most ", kMaxDepth, " levels, found more"));
  }
  // Whoever is reached twice with tensors in it would give them again under other names, and those
  // of what it holds too: more and more with every level.
  Visit& visit = visits_[value.index];
  if (visit == Visit::kInside) return Refuse(name, "expected no cycle, found one");
  if (visit == Visit::kWithTensors) {
    return Refuse(name, "expected each container of tensors once, found it twice");
  }
  if (visit == Visit::kWithoutTensors) return absl::OkStatus();
  visit = Visit::kInside;
  const size_t before = tensors_.size();
  DS_RETURN_IF_ERROR(WalkItems(name, value, depth));
  visit = tensors_.size() > before ? Visit::kWithTensors : Visit::kWithoutTensors;
  return absl::OkStatus();
}

absl::Status Collector::WalkItems(const std::string& name, const Value& value, int depth) {
  const std::vector<Value>& items = pickle_.items[value.index];
  const std::string prefix = name.empty() ? "" : StrCat(name, ".");
  if (value.kind != Value::kDict) {
    for (size_t i = 0; i < items.size(); ++i) {
      DS_RETURN_IF_ERROR(Walk(StrCat(prefix, i), items[i], depth + 1));
    }
    return absl::OkStatus();
  }
  std::set<std::tuple<Value::Kind, std::string_view, int64_t>> keys;  // "" is not 0
  for (size_t i = 0; i < items.size(); i += 2) {
    const bool is_text = items[i].kind == Value::kText;
    if (prefix.size() + items[i].text.size() > kMaxTensorNameBytes) {
      return Refuse(name, StrCat("expected names of at most ", kMaxTensorNameBytes,
                                 " bytes, found a longer one"));
    }
    const std::string key =
        StrCat(prefix, is_text ? std::string(items[i].text) : StrCat(items[i].number));
    if (!keys.emplace(items[i].kind, items[i].text, is_text ? 0 : items[i].number).second) {
      return Refuse(key, "expected once, found twice");
    }
    DS_RETURN_IF_ERROR(Walk(key, items[i + 1], depth + 1));
  }
  return absl::OkStatus();
}

// Whether elements lie one after another in row-major order. A size of 1 may have any stride.
bool IsContiguous(const PickleTensor& tensor) {
  int64_t expected = 1;
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

absl::Status Collector::CountName(const std::string& name) {
  if (tensors_.size() == kMaxPthTensors) {
    return Refuse(name, StrCat("expected at most ", kMaxPthTensors, " tensors, found more"));
  }
  const size_t most = storages_.file_bytes + kMaxPthSpareNameBytes;
  name_bytes_ += name.size();
  if (name_bytes_ <= most) return absl::OkStatus();
  return Refuse(name, StrCat("expected names of at most ", most, " bytes together, found more"));
}

absl::Status Collector::AddTensor(const std::string& name, const PickleTensor& tensor) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) >= ' ' && c != '\x7f';
  });
  if (name.empty() || !plain) return Refuse(name, "expected a printable name, found another");
  DS_RETURN_IF_ERROR(CountName(name));
  const PickleStorage& declared = pickle_.storages[tensor.storage];
  const std::span<const std::byte> storage = storages_.data[tensor.storage];
  const auto what = [&] {
    return StrCat(DTypeName(declared.dtype), " ", ShapeString(tensor.shape));
  };
  const std::optional<size_t> bytes = TensorBytes(declared.dtype, tensor.shape);
  if (!bytes.has_value()) {
    return Refuse(name, StrCat("expected a size below 2^63 bytes, found ", what()));
  }
  Tensor out = {.name = name, .dtype = declared.dtype, .shape = tensor.shape, .data = {}};
  if (*bytes > 0) {
    // The last element, and with it every other, has to lie in the storage.
    int64_t last = tensor.offset;
    bool fits = true;
    for (size_t i = 0; i < tensor.shape.size() && fits; ++i) {
      int64_t step = 0;
      fits = !__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &step) &&
             !__builtin_add_overflow(last, step, &last);
    }
    if (!fits || last >= declared.elements) {
      return Refuse(name,
                    StrCat("expected ", what(), " with strides ", ShapeString(tensor.strides),
                           " at offset ", tensor.offset, " to lie within ", declared.elements,
                           " elements of storage ", Shown(declared.key), ", found it beyond"));
    }
    if (IsContiguous(tensor)) {
      const size_t element = DTypeBytes(declared.dtype);
      out.data = storage.subspan(static_cast<size_t>(tensor.offset) * element, *bytes);
    } else {
      DS_ASSIGN_OR_RETURN(out.data, Gather(name, tensor, declared.dtype, storage));
    }
  }
  tensors_.push_back(std::move(out));
  return absl::OkStatus();
}

absl::StatusOr<std::span<const std::byte>> Collector::Gather(const std::string& name,
                                                             const PickleTensor& tensor,
                                                             DType dtype,
                                                             std::span<const std::byte> storage) {
  const size_t bytes = *TensorBytes(dtype, tensor.shape);
  // Strides of 0 and views of the same storage could ask for any amount.
  if (bytes > storage.size() || bytes > storages_.file_bytes - gathered_bytes_) {
    return Refuse(name, StrCat("expected views of at most ",
                               std::min(storage.size(), storages_.file_bytes - gathered_bytes_),
                               " more bytes to be gathered, found ", bytes));
  }
  gathered_bytes_ += bytes;
  std::vector<std::byte>& out = memory_->gathered.emplace_back(bytes);
  const size_t element = DTypeBytes(dtype);
  std::array<int64_t, kMaxTensorRank> index{};
  int64_t at = tensor.offset;
  for (size_t done = 0; done < bytes; done += element) {
    std::memcpy(out.data() + done, storage.data() + static_cast<size_t>(at) * element, element);
    for (size_t i = tensor.shape.size(); i-- > 0;) {
      if (tensor.shape[i] == 1) continue;  // its stride says nothing, and may be anything
      at += tensor.strides[i];
      if (++index[i] < tensor.shape[i]) break;
      at -= tensor.shape[i] * tensor.strides[i];
      index[i] = 0;
    }
  }
  return out;
}

absl::StatusOr<TensorSet> Collector::Collect() {
  const Value root = Unwrapped(pickle_.root);
  if (root.kind != Value::kDict && root.kind != Value::kList && root.kind != Value::kTuple) {
    return absl::InvalidArgumentError(StrCat("expected a dict or list of tensors, found ",
                                             PickleKindName(root.kind), " (", source_, ")"));
  }
  DS_RETURN_IF_ERROR(Walk("", root, 0));
  return TensorSet::Make(source_, std::move(tensors_), {}, memory_);
}

}  // namespace

bool LooksLikePth(std::string_view start) {
  return start.substr(0, kZipMagic.size()) == kZipMagic ||
         start.substr(0, kLegacyPthMagic.size()) == kLegacyPthMagic;
}

absl::StatusOr<TensorSet> ParsePth(std::string source, std::span<const std::byte> bytes,
                                   std::shared_ptr<const void> memory) {
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()),
                               std::min(bytes.size(), kLegacyPthMagic.size()));
  Pickle pickle;
  PthStorages storages = {.memory = std::move(memory), .file_bytes = bytes.size(), .data = {}};
  if (start == kLegacyPthMagic) {
    DS_RETURN_IF_ERROR(ReadLegacyPth(source, bytes, &pickle, &storages));
  } else {
    DS_RETURN_IF_ERROR(ReadZipPth(source, bytes, &pickle, &storages));
  }
  return Collector(std::move(source), pickle, storages).Collect();
}

absl::StatusOr<TensorSet> ReadPth(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  DS_ASSIGN_OR_RETURN(TensorSet set, ParsePth(path, file->bytes(), file));
  // Where all that is left is copies, nobody could tell later.
  if (file->lost()) {
    return absl::DataLossError(
        StrCat("expected a file that stays whole while it is read, found it cut (", path, ")"));
  }
  return set;
}

}  // namespace dreamstate::tensors
