#include "core/state/layouts.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/from_float.h"
#include "core/tensors/pth.h"

namespace dreamstate::state {
namespace {

using tensors::DType;

// What a .pth file takes beside its values: at most, for the file and for a tensor.
constexpr int64_t kPthBytes = int64_t{64} << 10;
constexpr int64_t kPthTensorBytes = 1024;
// The same for our own record: lineage and header.
constexpr int64_t kRecordBytes = int64_t{1} << 20;

std::string TimeStateName(int layer) { return StrCat("blocks.", layer, ".att.time_state"); }

bool LooksLikeSafetensors(std::string_view bytes) {
  uint64_t header = 0;
  if (bytes.size() < sizeof header + 2) return false;
  std::memcpy(&header, bytes.data(), sizeof header);
  return header <= bytes.size() - sizeof header && bytes[sizeof header] == '{';
}

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

tensors::Shape HeadsShape(const Shape& shape) {
  return {shape.heads, shape.head_size, shape.head_size};
}

// The parts of layer `layer` in a state.
std::span<float> Shift(State& state, int layer, int mix) {
  const size_t width = static_cast<size_t>(state.shape.width);
  return std::span(state.shift).subspan((static_cast<size_t>(layer) * 2 + mix) * width, width);
}
std::span<float> Heads(State& state, int layer) {
  const size_t elements = state.wkv.size() / static_cast<size_t>(state.shape.layers);
  return std::span(state.wkv).subspan(static_cast<size_t>(layer) * elements, elements);
}

// Every matrix the other way round, in place.
void Transpose(State* state) {
  const size_t n = static_cast<size_t>(state->shape.head_size);
  for (size_t head = 0; head < state->wkv.size(); head += n * n) {
    float* const matrix = &state->wkv[head];
    for (size_t r = 0; r < n; ++r) {
      for (size_t c = 0; c < r; ++c) std::swap(matrix[r * n + c], matrix[c * n + r]);
    }
  }
}

// Copies tensor `name` as fp32. Leading dimensions of 1 (a batch of one) may be there or not.
absl::Status Take(const tensors::TensorSet& set, const std::string& name,
                  const tensors::Shape& shape, std::span<float> out, DType* dtype) {
  const tensors::Tensor* const tensor = set.Find(name);
  if (tensor == nullptr) return set.Require(name, shape).status();
  std::span<const int64_t> found = tensor->shape;
  while (found.size() > shape.size() && found.front() == 1) found = found.subspan(1);
  if (!std::ranges::equal(found, shape)) return set.Require(name, shape).status();
  *dtype = tensor->dtype;
  return tensors::ToFloat(*tensor, out);
}

absl::StatusOr<DType> TakePackage(const tensors::TensorSet& set, State* state) {
  const Shape& shape = state->shape;
  if (set.tensors().size() != 3 * static_cast<size_t>(shape.layers)) {
    return absl::InvalidArgumentError(
        StrCat("expected a list of ", 3 * int64_t{shape.layers}, " tensors, 3 for each of ",
               shape.layers, " layers, found ", set.tensors().size(), " (", set.source(), ")"));
  }
  DType dtype = DType::kF32;
  DType heads_dtype = DType::kF32;
  for (int layer = 0; layer < shape.layers; ++layer) {
    const int first = 3 * layer;
    DS_RETURN_IF_ERROR(Take(set, StrCat(first), {shape.width}, Shift(*state, layer, 0), &dtype));
    DS_RETURN_IF_ERROR(
        Take(set, StrCat(first + 1), HeadsShape(shape), Heads(*state, layer), &heads_dtype));
    DS_RETURN_IF_ERROR(
        Take(set, StrCat(first + 2), {shape.width}, Shift(*state, layer, 1), &dtype));
  }
  return dtype;
}

absl::StatusOr<DType> TakeTimeState(const tensors::TensorSet& set, State* state) {
  DType dtype = DType::kF32;
  for (int layer = 0; layer < state->shape.layers; ++layer) {
    DS_RETURN_IF_ERROR(
        Take(set, TimeStateName(layer), HeadsShape(state->shape), Heads(*state, layer), &dtype));
  }
  if (set.tensors().size() != static_cast<size_t>(state->shape.layers)) {
    for (const tensors::Tensor& tensor : set.tensors()) {
      bool known = false;
      for (int layer = 0; layer < state->shape.layers; ++layer) {
        known |= tensor.name == TimeStateName(layer);
      }
      if (!known) {
        return absl::InvalidArgumentError(StrCat("expected only the time states of ",
                                                 state->shape.layers, " layers, found ",
                                                 tensor.name, " (", set.source(), ")"));
      }
    }
  }
  return dtype;
}

absl::StatusOr<StateFile> ReadPth(std::string_view source, std::string_view bytes,
                                  const Shape& shape, LayoutOptions options) {
  DS_ASSIGN_OR_RETURN(const tensors::TensorSet set,
                      tensors::ParsePth(std::string(source), BytesOf(bytes), nullptr));
  StateFile file;
  if (options.layout) {
    file.layout = *options.layout;
  } else {
    const bool tuned = std::ranges::any_of(set.tensors(), [](const tensors::Tensor& tensor) {
      return tensor.name.ends_with("time_state");
    });
    file.layout = tuned ? Layout::kTimeState : Layout::kRwkvPackage;
  }
  State state = State::Empty(shape);
  if (file.layout == Layout::kTimeState) {
    DS_ASSIGN_OR_RETURN(file.dtype, TakeTimeState(set, &state));
  } else {
    DS_ASSIGN_OR_RETURN(file.dtype, TakePackage(set, &state));
  }
  if (options.transposed) Transpose(&state);
  file.record.state = std::move(state);
  return file;
}

absl::StatusOr<StateFile> ReadCanonical(std::string_view source, std::string_view bytes,
                                        const Shape& shape, const LayoutOptions& options) {
  StateFile file{.layout = Layout::kCanonical, .dtype = options.dtype.value_or(DType::kF32)};
  const size_t element = tensors::DTypeBytes(file.dtype);
  const int64_t elements = shape.shift_elements() + shape.wkv_elements();
  if (bytes.size() != static_cast<size_t>(elements) * element) {
    return absl::InvalidArgumentError(
        StrCat(source, ": ", options.layout ? "" : "begins neither as safetensors nor as .pth; ",
               "expected ", elements * static_cast<int64_t>(element), " bytes (", elements,
               " values in ", tensors::DTypeName(file.dtype), "), found ", bytes.size()));
  }
  State state = State::Empty(shape);
  const size_t shift_bytes = state.shift.size() * element;
  const auto take = [&](std::string_view part, std::vector<float>* out) {
    return tensors::ToFloat({.name = "state",
                             .dtype = file.dtype,
                             .shape = {static_cast<int64_t>(out->size())},
                             .data = BytesOf(part)},
                            *out);
  };
  DS_RETURN_IF_ERROR(take(bytes.substr(0, shift_bytes), &state.shift));
  DS_RETURN_IF_ERROR(take(bytes.substr(shift_bytes), &state.wkv));
  file.record.state = std::move(state);
  return file;
}

absl::StatusOr<StateFile> ReadRecord(std::string_view source, std::string_view bytes) {
  absl::StatusOr<Record> record = ParseRecord(source, bytes);
  // Nothing of ours was lost: the file is another's.
  if (!record.ok()) return absl::InvalidArgumentError(record.status().message());
  return StateFile{.layout = Layout::kRecord, .record = *std::move(record)};
}

absl::Status CannotHold(std::string_view layout, std::string_view allowed, DType dtype) {
  return FieldError("dtype", StrCat("expected ", allowed, " for layout ", layout, ", found ",
                                    tensors::DTypeName(dtype)));
}

// A part of a state as a tensor of another dtype; its bytes are appended to `*memory`, which has
// room for them.
absl::StatusOr<tensors::Tensor> MakeTensor(std::string name, tensors::Shape shape,
                                           std::span<const float> values, DType dtype,
                                           std::string* memory) {
  const size_t start = memory->size();
  absl::Status status = tensors::AppendFromFloat(values, dtype, memory);
  if (!status.ok()) return FieldError("dtype", StdView(status.message()));
  return tensors::Tensor{.name = std::move(name),
                         .dtype = dtype,
                         .shape = std::move(shape),
                         .data = BytesOf(std::string_view(*memory).substr(start))};
}

absl::StatusOr<std::string> WritePth(const State& state, Layout layout, DType dtype) {
  const Shape& shape = state.shape;
  const bool package = layout == Layout::kRwkvPackage;
  const size_t width = static_cast<size_t>(shape.width);
  const size_t heads = state.wkv.size() / static_cast<size_t>(shape.layers);
  std::string memory;
  memory.reserve(static_cast<size_t>(shape.bytes()));
  std::vector<tensors::Tensor> tensors;
  for (size_t layer = 0; layer < static_cast<size_t>(shape.layers); ++layer) {
    const auto add = [&](std::string name, tensors::Shape tensor_shape,
                         std::span<const float> values, DType tensor_dtype) -> absl::Status {
      DS_ASSIGN_OR_RETURN(
          tensors::Tensor tensor,
          MakeTensor(std::move(name), std::move(tensor_shape), values, tensor_dtype, &memory));
      tensors.push_back(std::move(tensor));
      return absl::OkStatus();
    };
    const std::span<const float> matrices = std::span(state.wkv).subspan(layer * heads, heads);
    const std::span<const float> shift =
        std::span(state.shift).subspan(layer * 2 * width, 2 * width);
    if (package) {
      const size_t first = 3 * layer;
      DS_RETURN_IF_ERROR(add(StrCat(first), {shape.width}, shift.first(width), dtype));
      DS_RETURN_IF_ERROR(add(StrCat(first + 1), HeadsShape(shape), matrices, DType::kF32));
      DS_RETURN_IF_ERROR(add(StrCat(first + 2), {shape.width}, shift.last(width), dtype));
    } else {
      DS_RETURN_IF_ERROR(
          add(TimeStateName(static_cast<int>(layer)), HeadsShape(shape), matrices, dtype));
    }
  }
  return tensors::SerializePth(
      tensors, package ? tensors::PthContainer::kList : tensors::PthContainer::kDict);
}

absl::StatusOr<std::string> WriteCanonical(const State& state, DType dtype) {
  std::string bytes;
  bytes.reserve((state.shift.size() + state.wkv.size()) * tensors::DTypeBytes(dtype));
  for (const std::vector<float>* part : {&state.shift, &state.wkv}) {
    const absl::Status status = tensors::AppendFromFloat(*part, dtype, &bytes);
    if (!status.ok()) return FieldError("dtype", StdView(status.message()));
  }
  return bytes;
}

}  // namespace

std::string_view LayoutName(Layout layout) {
  switch (layout) {
    case Layout::kRecord:
      return "dreamstate";
    case Layout::kCanonical:
      return "canonical";
    case Layout::kRwkvPackage:
      return "rwkv_package";
    case Layout::kTimeState:
      return "time_state";
  }
  return "unknown";
}

std::string_view LayoutEnding(Layout layout) {
  switch (layout) {
    case Layout::kRecord:
      return ".safetensors";
    case Layout::kCanonical:
      return ".bin";
    default:
      return ".pth";
  }
}

absl::Status CheckLayoutOptions(const LayoutOptions& options) {
  const std::optional<Layout>& layout = options.layout;
  if (options.dtype) {
    if (layout.value_or(Layout::kCanonical) != Layout::kCanonical) {
      return FieldError("dtype", StrCat("expected none for layout ", LayoutName(*layout),
                                        ", whose files say it themselves"));
    }
    if (*options.dtype != DType::kF32 && *options.dtype != DType::kBF16 &&
        *options.dtype != DType::kF16) {
      return CannotHold("canonical", "f32, bf16 or f16", *options.dtype);
    }
  }
  const bool pth = layout == Layout::kRwkvPackage || layout == Layout::kTimeState;
  if (options.transposed && ((layout && !pth) || options.dtype)) {
    return FieldError("transposed", StrCat("expected layout rwkv_package or time_state, found ",
                                           LayoutName(layout.value_or(Layout::kCanonical))));
  }
  return absl::OkStatus();
}

int64_t MostFileBytes(const Shape& shape, const LayoutOptions& options, int64_t kept_tokens) {
  const auto of = [&](Layout layout) -> int64_t {
    const int64_t elements = shape.shift_elements() + shape.wkv_elements();
    switch (layout) {
      case Layout::kCanonical:
        return elements *
               static_cast<int64_t>(tensors::DTypeBytes(options.dtype.value_or(DType::kF32)));
      case Layout::kRwkvPackage:
      case Layout::kTimeState:
        return shape.bytes() + kPthBytes + 3 * kPthTensorBytes * shape.layers;
      case Layout::kRecord:
        break;
    }
    return shape.bytes() + (int64_t{shape.width} + kept_tokens) * int64_t{sizeof(float)} +
           kRecordBytes;
  };
  if (options.layout) return of(*options.layout);
  if (options.dtype) return of(Layout::kCanonical);
  return std::max(of(Layout::kRecord), of(Layout::kRwkvPackage));
}

absl::StatusOr<StateFile> ReadStateFile(std::string_view source, std::string_view bytes,
                                        const Shape& shape, const LayoutOptions& options) {
  DS_RETURN_IF_ERROR(CheckLayoutOptions(options));
  DS_RETURN_IF_ERROR(shape.Validate());
  absl::StatusOr<StateFile> file;
  if (options.layout == Layout::kRecord ||
      (!options.layout && !options.dtype && LooksLikeSafetensors(bytes))) {
    file = ReadRecord(source, bytes);
  } else if (options.layout == Layout::kRwkvPackage || options.layout == Layout::kTimeState ||
             (!options.layout && !options.dtype && tensors::LooksLikePth(bytes))) {
    file = ReadPth(source, bytes, shape, options);
  } else {
    file = ReadCanonical(source, bytes, shape, options);
  }
  if (!file.ok()) return file;
  LayoutOptions told = options;
  told.layout = file->layout;
  DS_RETURN_IF_ERROR(CheckLayoutOptions(told));
  if (absl::Status status = file->record.state.Validate(); !status.ok()) {
    return absl::InvalidArgumentError(StrCat(source, ": ", status.message()));
  }
  return file;
}

absl::StatusOr<std::string> WriteStateFile(const Record& record, Layout layout,
                                           std::optional<DType> dtype) {
  const DType wanted = dtype.value_or(layout == Layout::kRwkvPackage ? DType::kBF16 : DType::kF32);
  if (wanted != DType::kF32 && wanted != DType::kBF16 && wanted != DType::kF16) {
    return CannotHold(LayoutName(layout), "f32, bf16 or f16", wanted);
  }
  switch (layout) {
    case Layout::kRecord:
      if (wanted != DType::kF32) return CannotHold("dreamstate", "f32", wanted);
      return SerializeRecord(record);
    case Layout::kCanonical:
      return WriteCanonical(record.state, wanted);
    default:
      return WritePth(record.state, layout, wanted);
  }
}

}  // namespace dreamstate::state
