#include "core/tensors/pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <unordered_map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/pickle_opcodes.h"

namespace dreamstate::tensors {
namespace {

using Value = PickleValue;

struct Global {
  std::string_view name;  // "module name"
  Value::Kind kind;
  DType dtype = DType::kU8;
};

// Everything that a checkpoint may name, and what it stands for here.
constexpr std::array kGlobals = {
    Global{"torch._utils _rebuild_tensor_v2", Value::kRebuildTensor},
    Global{"torch._utils _rebuild_parameter", Value::kRebuildParameter},
    Global{"collections OrderedDict", Value::kOrderedDict},
    Global{"torch DoubleStorage", Value::kStorageType, DType::kF64},
    Global{"torch FloatStorage", Value::kStorageType, DType::kF32},
    Global{"torch HalfStorage", Value::kStorageType, DType::kF16},
    Global{"torch BFloat16Storage", Value::kStorageType, DType::kBF16},
    Global{"torch LongStorage", Value::kStorageType, DType::kI64},
    Global{"torch IntStorage", Value::kStorageType, DType::kI32},
    Global{"torch ShortStorage", Value::kStorageType, DType::kI16},
    Global{"torch CharStorage", Value::kStorageType, DType::kI8},
    Global{"torch ByteStorage", Value::kStorageType, DType::kU8},
    Global{"torch BoolStorage", Value::kStorageType, DType::kBool},
};

// Untrusted text for a message.
std::string Shown(std::string_view text) {
  constexpr size_t kShown = 128;
  return StrCat("\"", absl::CHexEscape(AbslView(text.substr(0, kShown))),
                text.size() > kShown ? "…" : "", "\"");
}

class Machine {
 public:
  Machine(std::string_view source, std::string_view entry, std::span<const std::byte> bytes)
      : source_(source), entry_(entry), bytes_(bytes) {}

  absl::StatusOr<Pickle> Run();

 private:
  absl::Status Refuse(std::string_view problem) const {
    return absl::InvalidArgumentError(StrCat(entry_, ": ", PickleOpcodeName(opcode_), " at byte ",
                                             opcode_at_, ": ", problem, " (", source_, ")"));
  }

  // Reading.
  absl::StatusOr<std::span<const std::byte>> Take(uint64_t count);
  template <typename T>
  absl::StatusOr<T> TakeInt();
  absl::StatusOr<std::string_view> TakeLine();
  absl::StatusOr<Value> TakeText(uint64_t bytes);
  absl::StatusOr<Value> TakeLong();

  // The stack. Values below the last mark are out of reach of everything but that mark's own end.
  absl::Status Push(Value value);
  absl::StatusOr<Value> Pop();
  absl::StatusOr<std::vector<Value>> PopToMark();
  absl::StatusOr<std::vector<Value>> PopCount(size_t count);
  absl::Status PushContainer(Value::Kind kind, std::vector<Value> items);
  // The value on top, which has to be of `kind` and have items.
  absl::StatusOr<std::vector<Value>*> Top(Value::Kind kind);
  const std::vector<Value>& Items(const Value& value) const { return pickle_.items[value.index]; }

  // Opcodes of more than a line.
  absl::Status Step();
  absl::Status PutMemo(uint64_t index);
  absl::Status GetMemo(uint64_t index);
  absl::Status PushGlobal(std::string_view module, std::string_view name);
  absl::Status Append(std::vector<Value> values);
  absl::Status SetItems(std::vector<Value> values);
  absl::Status Build();
  absl::Status LoadStorage();
  absl::Status Reduce();
  absl::Status RebuildTensor(const std::vector<Value>& arguments);
  absl::StatusOr<Shape> IntTuple(std::string_view what, const Value& value) const;

  std::string_view source_, entry_;
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  uint8_t opcode_ = 0;
  size_t opcode_at_ = 0;
  bool stopped_ = false;
  std::vector<Value> stack_;
  std::vector<size_t> marks_;  // sizes of the stack
  std::unordered_map<uint64_t, Value> memo_;
  std::map<std::string_view, uint32_t> storages_;
  size_t values_ = 0;
  Pickle pickle_;
};

absl::StatusOr<std::span<const std::byte>> Machine::Take(uint64_t count) {
  if (count > bytes_.size() - at_) {
    return Refuse(
        StrCat("expected ", count, " more bytes, found ", bytes_.size() - at_, " (truncated?)"));
  }
  const std::span<const std::byte> taken = bytes_.subspan(at_, count);
  at_ += count;
  return taken;
}

template <typename T>
absl::StatusOr<T> Machine::TakeInt() {
  DS_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, Take(sizeof(T)));
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return static_cast<T>(value);
}

absl::StatusOr<std::string_view> Machine::TakeLine() {
  const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_,
                              bytes_.size() - at_);
  const size_t end = rest.find('\n');
  if (end == std::string_view::npos) return Refuse("expected a line, found no end of it");
  at_ += end + 1;
  return rest.substr(0, end);
}

absl::StatusOr<Value> Machine::TakeText(uint64_t bytes) {
  DS_ASSIGN_OR_RETURN(const std::span<const std::byte> text, Take(bytes));
  return Value{.kind = Value::kText,
               .text = {reinterpret_cast<const char*>(text.data()), text.size()}};
}

// Two's complement of any number of bytes, of which a checkpoint needs eight.
absl::StatusOr<Value> Machine::TakeLong() {
  DS_ASSIGN_OR_RETURN(const uint8_t count, TakeInt<uint8_t>());
  if (count > sizeof(int64_t)) return Refuse(StrCat("expected at most 8 bytes, found ", count));
  DS_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, Take(count));
  uint64_t value = count > 0 && (bytes.back() & std::byte{0x80}) != std::byte{} ? ~uint64_t{0} : 0;
  for (size_t i = count; i-- > 0;) value = (value << 8) | static_cast<uint64_t>(bytes[i]);
  return Value{.kind = Value::kInt, .number = static_cast<int64_t>(value)};
}

absl::Status Machine::Push(Value value) {
  if (++values_ > kMaxPickleValues) {
    return Refuse(StrCat("expected at most ", kMaxPickleValues, " values, found more"));
  }
  stack_.push_back(value);
  return absl::OkStatus();
}

absl::StatusOr<Value> Machine::Pop() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    return Refuse("expected a value on the stack, found none");
  }
  const Value value = stack_.back();
  stack_.pop_back();
  return value;
}

absl::StatusOr<std::vector<Value>> Machine::PopToMark() {
  if (marks_.empty()) return Refuse("expected a mark on the stack, found none");
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<Value> values(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return values;
}

absl::StatusOr<std::vector<Value>> Machine::PopCount(size_t count) {
  std::vector<Value> values(count);
  for (size_t i = count; i-- > 0;) {
    DS_ASSIGN_OR_RETURN(values[i], Pop());
  }
  return values;
}

absl::Status Machine::PushContainer(Value::Kind kind, std::vector<Value> items) {
  const auto index = static_cast<uint32_t>(pickle_.items.size());
  pickle_.items.push_back(std::move(items));
  return Push({.kind = kind, .index = index});
}

absl::StatusOr<std::vector<Value>*> Machine::Top(Value::Kind kind) {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back()) || stack_.back().kind != kind) {
    return Refuse(StrCat("expected ", PickleKindName(kind), " on the stack, found ",
                         stack_.empty() ? "nothing" : PickleKindName(stack_.back().kind)));
  }
  return &pickle_.items[stack_.back().index];
}

absl::Status Machine::PutMemo(uint64_t index) {
  DS_ASSIGN_OR_RETURN(const Value value, Pop());
  stack_.push_back(value);
  if (memo_.size() == kMaxPickleValues && !memo_.contains(index)) {
    return Refuse(StrCat("expected at most ", kMaxPickleValues, " values in the memo, found more"));
  }
  memo_[index] = value;
  return absl::OkStatus();
}

absl::Status Machine::GetMemo(uint64_t index) {
  const auto found = memo_.find(index);
  if (found == memo_.end()) {
    return Refuse(StrCat("expected a value in the memo at ", index, ", found none"));
  }
  return Push(found->second);
}

absl::Status Machine::PushGlobal(std::string_view module, std::string_view name) {
  const std::string full = StrCat(module, " ", name);
  for (const Global& global : kGlobals) {
    if (global.name == full) return Push({.kind = global.kind, .dtype = global.dtype});
  }
  return Refuse(StrCat(
      "expected one of ",
      absl::StrJoin(kGlobals, ", ",
                    [](std::string* out, const Global& global) { StrAppend(out, global.name); }),
      "; found ", Shown(full), ", which is not trusted"));
}

absl::Status Machine::Append(std::vector<Value> values) {
  DS_ASSIGN_OR_RETURN(std::vector<Value>* const list, Top(Value::kList));
  list->insert(list->end(), values.begin(), values.end());
  return absl::OkStatus();
}

absl::Status Machine::SetItems(std::vector<Value> values) {
  if (values.size() % 2 != 0) return Refuse("expected keys and values, found an odd number");
  for (size_t i = 0; i < values.size(); i += 2) {
    if (values[i].kind != Value::kText && values[i].kind != Value::kInt) {
      return Refuse(
          StrCat("expected a text or an integer as key, found ", PickleKindName(values[i].kind)));
    }
  }
  DS_ASSIGN_OR_RETURN(std::vector<Value>* const dict, Top(Value::kDict));
  dict->insert(dict->end(), values.begin(), values.end());
  return absl::OkStatus();
}

// Sets attributes of an object; those of a state_dict (`_metadata`) say nothing about tensors.
absl::Status Machine::Build() {
  DS_RETURN_IF_ERROR(Pop().status());
  return Top(Value::kDict).status();
}

// ("storage", type, key, device, number of elements); before PyTorch 1.6 a sixth, None.
absl::Status Machine::LoadStorage() {
  DS_ASSIGN_OR_RETURN(const Value id, Pop());
  const auto expected = [&](std::string_view found) {
    return Refuse(StrCat("expected (\"storage\", type, key, device, elements), found ", found));
  };
  if (id.kind != Value::kTuple) return expected(PickleKindName(id.kind));
  const std::vector<Value>& items = Items(id);
  if (items.size() < 5 || items.size() > 6) {
    return expected(StrCat("a tuple of ", items.size()));
  }
  if (items[0].kind != Value::kText || items[0].text != "storage") return expected("another kind");
  if (items[1].kind != Value::kStorageType) return expected(PickleKindName(items[1].kind));
  if (items[2].kind != Value::kText || items[2].text.empty()) return expected("no key");
  if (items[3].kind != Value::kText) return expected("no device");
  if (items[4].kind != Value::kInt || items[4].number < 0) return expected("no number of elements");
  if (items.size() == 6 && items[5].kind != Value::kNone) {
    return expected("a view of another storage");
  }
  const PickleStorage storage = {
      .key = items[2].text, .dtype = items[1].dtype, .elements = items[4].number};
  const auto [known, is_new] =
      storages_.try_emplace(storage.key, static_cast<uint32_t>(pickle_.storages.size()));
  if (is_new) {
    pickle_.storages.push_back(storage);
  } else if (const PickleStorage& before = pickle_.storages[known->second];
             before.dtype != storage.dtype || before.elements != storage.elements) {
    return Refuse(StrCat("expected storage ", Shown(storage.key), " of ", before.elements, " ",
                         DTypeName(before.dtype), " as before, found ", storage.elements, " ",
                         DTypeName(storage.dtype)));
  }
  return Push({.kind = Value::kStorage, .index = known->second});
}

absl::StatusOr<Shape> Machine::IntTuple(std::string_view what, const Value& value) const {
  if (value.kind != Value::kTuple) {
    return Refuse(StrCat("expected a tuple as ", what, ", found ", PickleKindName(value.kind)));
  }
  const std::vector<Value>& items = Items(value);
  if (items.size() > kMaxTensorRank) {
    return Refuse(
        StrCat("expected a ", what, " of at most ", kMaxTensorRank, ", found ", items.size()));
  }
  Shape numbers;
  for (const Value& item : items) {
    if (item.kind != Value::kInt || item.number < 0) {
      return Refuse(StrCat(
          "expected a ", what, " of integers that are not negative, found ",
          item.kind == Value::kInt ? StrCat(item.number) : std::string(PickleKindName(item.kind))));
    }
    numbers.push_back(item.number);
  }
  return numbers;
}

// (storage, offset, size, stride, requires_grad, hooks), sometimes (…, metadata).
absl::Status Machine::RebuildTensor(const std::vector<Value>& arguments) {
  if (arguments.size() < 6 || arguments.size() > 7) {
    return Refuse(StrCat("expected 6 arguments of a tensor, found ", arguments.size()));
  }
  if (arguments[0].kind != Value::kStorage) {
    return Refuse(StrCat("expected a tensor's storage, found ", PickleKindName(arguments[0].kind)));
  }
  if (arguments[1].kind != Value::kInt || arguments[1].number < 0) {
    return Refuse("expected an offset of 0 or more, found another");
  }
  PickleTensor tensor = {.storage = arguments[0].index, .offset = arguments[1].number};
  DS_ASSIGN_OR_RETURN(tensor.shape, IntTuple("size", arguments[2]));
  DS_ASSIGN_OR_RETURN(tensor.strides, IntTuple("stride", arguments[3]));
  if (tensor.shape.size() != tensor.strides.size()) {
    return Refuse(
        StrCat("expected ", tensor.shape.size(), " strides, found ", tensor.strides.size()));
  }
  const auto index = static_cast<uint32_t>(pickle_.tensors.size());
  pickle_.tensors.push_back(std::move(tensor));
  return Push({.kind = Value::kTensor, .index = index});
}

// Stands for a call of a global; each of them is one of the three below.
absl::Status Machine::Reduce() {
  DS_ASSIGN_OR_RETURN(const Value arguments, Pop());
  DS_ASSIGN_OR_RETURN(const Value function, Pop());
  if (arguments.kind != Value::kTuple) {
    return Refuse(StrCat("expected a tuple of arguments, found ", PickleKindName(arguments.kind)));
  }
  const std::vector<Value>& items = Items(arguments);
  switch (function.kind) {
    case Value::kOrderedDict:
      if (!items.empty()) {
        return Refuse(StrCat("expected an empty OrderedDict, found ", items.size(), " arguments"));
      }
      return PushContainer(Value::kDict, {});
    case Value::kRebuildTensor:
      return RebuildTensor(items);
    case Value::kRebuildParameter:  // (tensor, requires_grad, hooks)
      if (items.size() != 3 || items[0].kind != Value::kTensor) {
        return Refuse("expected a parameter's tensor and two arguments, found others");
      }
      return Push(items[0]);
    default:
      return Refuse(StrCat("expected a function to call, found ", PickleKindName(function.kind)));
  }
}

absl::Status Machine::Step() {
  const auto push = [this](absl::StatusOr<Value> value) -> absl::Status {
    return value.ok() ? Push(*value) : value.status();
  };
  const auto integer = [](int64_t number) { return Value{.kind = Value::kInt, .number = number}; };
  switch (opcode_) {
    case kPickleProto: {
      DS_ASSIGN_OR_RETURN(const uint8_t protocol, TakeInt<uint8_t>());
      if (protocol < 2 || protocol > 5) {
        return Refuse(StrCat("expected protocol 2 to 5, found ", protocol));
      }
      return absl::OkStatus();
    }
    case kPickleFrame:
      return TakeInt<uint64_t>().status();  // how much to read ahead
    case kPickleStop:
      stopped_ = true;
      if (stack_.size() != 1 || !marks_.empty()) {
        return Refuse(StrCat("expected one value at the end, found ", stack_.size()));
      }
      return absl::OkStatus();
    case kPickleMark:
      if (marks_.size() == kMaxPickleValues) return Refuse("expected fewer marks");
      marks_.push_back(stack_.size());
      return absl::OkStatus();
    case kPickleNone:
      return Push({.kind = Value::kNone});
    case kPickleNewTrue:
      return Push({.kind = Value::kBool, .number = 1});
    case kPickleNewFalse:
      return Push({.kind = Value::kBool, .number = 0});
    case kPickleBinInt: {
      DS_ASSIGN_OR_RETURN(const uint32_t bits, TakeInt<uint32_t>());
      return Push(integer(static_cast<int32_t>(bits)));
    }
    case kPickleBinInt1: {
      DS_ASSIGN_OR_RETURN(const uint8_t number, TakeInt<uint8_t>());
      return Push(integer(number));
    }
    case kPickleBinInt2: {
      DS_ASSIGN_OR_RETURN(const uint16_t number, TakeInt<uint16_t>());
      return Push(integer(number));
    }
    case kPickleLong1:
      return push(TakeLong());
    case kPickleBinFloat:
      DS_RETURN_IF_ERROR(Take(sizeof(double)).status());
      return Push({.kind = Value::kFloat});
    case kPickleShortBinUnicode:
    case kPickleShortBinString: {
      DS_ASSIGN_OR_RETURN(const uint8_t bytes, TakeInt<uint8_t>());
      return push(TakeText(bytes));
    }
    case kPickleBinUnicode: {
      DS_ASSIGN_OR_RETURN(const uint32_t bytes, TakeInt<uint32_t>());
      return push(TakeText(bytes));
    }
    case kPickleBinUnicode8: {
      DS_ASSIGN_OR_RETURN(const uint64_t bytes, TakeInt<uint64_t>());
      return push(TakeText(bytes));
    }
    case kPickleEmptyTuple:
      return PushContainer(Value::kTuple, {});
    case kPickleEmptyList:
      return PushContainer(Value::kList, {});
    case kPickleEmptyDict:
      return PushContainer(Value::kDict, {});
    case kPickleTuple: {
      DS_ASSIGN_OR_RETURN(std::vector<Value> values, PopToMark());
      return PushContainer(Value::kTuple, std::move(values));
    }
    case kPickleTuple1:
    case kPickleTuple2:
    case kPickleTuple3: {
      DS_ASSIGN_OR_RETURN(std::vector<Value> values, PopCount(opcode_ - kPickleTuple1 + 1));
      return PushContainer(Value::kTuple, std::move(values));
    }
    case kPickleAppend: {
      DS_ASSIGN_OR_RETURN(std::vector<Value> values, PopCount(1));
      return Append(std::move(values));
    }
    case kPickleAppends: {
      DS_ASSIGN_OR_RETURN(std::vector<Value> values, PopToMark());
      return Append(std::move(values));
    }
    case kPickleSetItem: {
      DS_ASSIGN_OR_RETURN(std::vector<Value> values, PopCount(2));
      return SetItems(std::move(values));
    }
    case kPickleSetItems: {
      DS_ASSIGN_OR_RETURN(std::vector<Value> values, PopToMark());
      return SetItems(std::move(values));
    }
    case kPickleBinPut: {
      DS_ASSIGN_OR_RETURN(const uint8_t index, TakeInt<uint8_t>());
      return PutMemo(index);
    }
    case kPickleLongBinPut: {
      DS_ASSIGN_OR_RETURN(const uint32_t index, TakeInt<uint32_t>());
      return PutMemo(index);
    }
    case kPickleMemoize:
      return PutMemo(memo_.size());
    case kPickleBinGet: {
      DS_ASSIGN_OR_RETURN(const uint8_t index, TakeInt<uint8_t>());
      return GetMemo(index);
    }
    case kPickleLongBinGet: {
      DS_ASSIGN_OR_RETURN(const uint32_t index, TakeInt<uint32_t>());
      return GetMemo(index);
    }
    case kPickleGlobal: {
      DS_ASSIGN_OR_RETURN(const std::string_view module, TakeLine());
      DS_ASSIGN_OR_RETURN(const std::string_view name, TakeLine());
      return PushGlobal(module, name);
    }
    case kPickleStackGlobal: {
      DS_ASSIGN_OR_RETURN(const std::vector<Value> names, PopCount(2));
      if (names[0].kind != Value::kText || names[1].kind != Value::kText) {
        return Refuse("expected a module and a name, found other values");
      }
      return PushGlobal(names[0].text, names[1].text);
    }
    case kPickleReduce:
      return Reduce();
    case kPickleBuild:
      return Build();
    case kPickleBinPersId:
      return LoadStorage();
    default:
      return Refuse("expected an opcode that checkpoints need, found another");
  }
}

absl::StatusOr<Pickle> Machine::Run() {
  if (bytes_.size() > kMaxPickleBytes) bytes_ = bytes_.first(kMaxPickleBytes);
  while (!stopped_) {
    opcode_at_ = at_;
    if (at_ == bytes_.size()) {
      return absl::InvalidArgumentError(
          StrCat(entry_, ": expected a pickle that ends",
                 at_ == kMaxPickleBytes ? StrCat(" within ", kMaxPickleBytes, " bytes") : "",
                 ", found none in ", at_, " bytes (truncated?) (", source_, ")"));
    }
    opcode_ = static_cast<uint8_t>(bytes_[at_++]);
    DS_RETURN_IF_ERROR(Step());
  }
  pickle_.root = stack_.front();
  pickle_.bytes = at_;
  return std::move(pickle_);
}

}  // namespace

std::string_view PickleKindName(PickleValue::Kind kind) {
  switch (kind) {
    case Value::kNone:
      return "None";
    case Value::kBool:
      return "a boolean";
    case Value::kInt:
      return "an integer";
    case Value::kFloat:
      return "a float";
    case Value::kText:
      return "a text";
    case Value::kTuple:
      return "a tuple";
    case Value::kList:
      return "a list";
    case Value::kDict:
      return "a dict";
    case Value::kStorage:
      return "a storage";
    case Value::kTensor:
      return "a tensor";
    case Value::kRebuildTensor:
    case Value::kRebuildParameter:
      return "a function";
    case Value::kOrderedDict:
    case Value::kStorageType:
      return "a type";
  }
  return "another value";
}

absl::StatusOr<Pickle> ParsePickle(std::string_view source, std::string_view entry,
                                   std::span<const std::byte> bytes) {
  return Machine(source, entry, bytes).Run();
}

}  // namespace dreamstate::tensors
