// Layout, all integers little-endian int32: magic, version, n_vocab, n_embd, n_layer, dtype; then
// until the end of the file, for each tensor: number of dimensions, length of the name, dtype,
// dimensions (fastest first), name, data.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/import.h"
#include "core/tensors/transposed.h"

namespace dreamstate::tensors {
namespace {

constexpr int32_t kMagic = 0x67676d66;
constexpr int32_t kVersion = 101;
constexpr std::string_view kFusedMixes = "att.x_rwkvag";
constexpr std::array<std::string_view, 6> kMixes = {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"};
constexpr std::array<std::string_view, 8> kLowRank = {"att.w1", "att.w2", "att.a1", "att.a2",
                                                      "att.v1", "att.v2", "att.g1", "att.g2"};

std::string_view QuantisedName(int32_t dtype) {
  constexpr std::pair<int32_t, std::string_view> kNames[] = {
      {2, "Q4_0"}, {3, "Q4_1"}, {4, "Q4_1_O"}, {7, "Q5_0"}, {8, "Q5_1"}, {9, "Q8_0"}};
  for (const auto& [number, name] : kNames) {
    if (number == dtype) return name;
  }
  return "";
}

// The blocks of a backbone have names such as "blocks.3.att.w1"; gives "att.w1".
std::string_view InBlock(std::string_view name) {
  constexpr std::string_view kPrefix = "blocks.";
  if (name.substr(0, kPrefix.size()) != kPrefix) return "";
  const size_t dot = name.find('.', kPrefix.size());
  return dot == std::string_view::npos ? "" : name.substr(dot + 1);
}

class Reader {
 public:
  Reader(std::string source, std::span<const std::byte> bytes, std::shared_ptr<const void> memory)
      : source_(std::move(source)), bytes_(bytes), rest_(bytes) {
    memory_->file = std::move(memory);
  }

  absl::StatusOr<TensorSet> Read();

 private:
  // What the tensors point into: the file, and what had to be turned.
  struct Memory {
    std::shared_ptr<const void> file;
    std::vector<std::vector<std::byte>> transposed;
  };

  absl::Status Refuse(std::string_view subject, std::string_view problem) const {
    return absl::InvalidArgumentError(StrCat(subject, ": ", problem, " (", source_, ")"));
  }
  size_t Offset() const { return bytes_.size() - rest_.size(); }

  absl::StatusOr<std::span<const std::byte>> Take(std::string_view subject, size_t bytes) {
    if (bytes > rest_.size()) {
      return Refuse(subject, StrCat("expected ", bytes, " bytes at offset ", Offset(), ", found ",
                                    rest_.size(), " (truncated)"));
    }
    const std::span<const std::byte> taken = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return taken;
  }

  absl::StatusOr<int32_t> TakeInt(std::string_view subject) {
    DS_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, Take(subject, sizeof(int32_t)));
    int32_t value;
    std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }

  absl::StatusOr<DType> ToDType(std::string_view subject, int32_t number) const {
    if (number == 0) return DType::kF32;
    if (number == 1) return DType::kF16;
    const std::string_view quantised = QuantisedName(number);
    return Refuse(subject, quantised.empty()
                               ? StrCat("expected dtype 0 (f32) or 1 (f16), found ", number)
                               : StrCat("expected dtype f32 or f16, found ", quantised,
                                        "; quantised files cannot be imported, take an FP16 or "
                                        "FP32 file of the same model"));
  }

  absl::Status ReadHeader();
  absl::Status ReadTensor();
  void AddFusedMixes(const Tensor& fused);
  void AddTransposed(const Tensor& tensor);
  absl::Status CheckAgainstHeader(const TensorSet& set) const;

  std::string source_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> rest_;
  std::shared_ptr<Memory> memory_ = std::make_shared<Memory>();
  std::vector<Tensor> tensors_;
  int32_t vocab_ = 0;
  int32_t width_ = 0;
  int32_t layers_ = 0;
};

absl::Status Reader::ReadHeader() {
  DS_ASSIGN_OR_RETURN(const int32_t magic, TakeInt("magic"));
  if (magic != kMagic) return Refuse("magic", "expected ggmf, found something else");
  DS_ASSIGN_OR_RETURN(const int32_t version, TakeInt("version"));
  if (version != kVersion) {
    return Refuse("version", StrCat("expected ", kVersion, ", found ", version));
  }
  for (const auto& [name, field] : {std::pair("n_vocab", &vocab_), std::pair("n_embd", &width_),
                                    std::pair("n_layer", &layers_)}) {
    DS_ASSIGN_OR_RETURN(*field, TakeInt(name));
    if (*field <= 0) return Refuse(name, StrCat("expected a positive number, found ", *field));
  }
  DS_ASSIGN_OR_RETURN(const int32_t dtype, TakeInt("dtype"));
  return ToDType("dtype", dtype).status();
}

absl::Status Reader::ReadTensor() {
  const std::string place = StrCat("tensor ", tensors_.size(), " at offset ", Offset());
  DS_ASSIGN_OR_RETURN(const int32_t rank, TakeInt(place));
  DS_ASSIGN_OR_RETURN(const int32_t name_bytes, TakeInt(place));
  DS_ASSIGN_OR_RETURN(const int32_t dtype_number, TakeInt(place));
  if (rank < 1 || rank > static_cast<int32_t>(kMaxTensorRank)) {
    return Refuse(place, StrCat("expected 1 to ", kMaxTensorRank, " dimensions, found ", rank));
  }
  if (name_bytes < 1 || name_bytes > static_cast<int32_t>(kMaxTensorNameBytes)) {
    return Refuse(place, StrCat("expected a name of 1 to ", kMaxTensorNameBytes, " bytes, found ",
                                name_bytes));
  }
  Tensor tensor;
  tensor.shape.resize(static_cast<size_t>(rank));
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    DS_ASSIGN_OR_RETURN(const int32_t size, TakeInt(place));
    if (size < 1) return Refuse(place, StrCat("expected sizes of at least 1, found ", size));
    tensor.shape[i] = size;
  }
  DS_ASSIGN_OR_RETURN(const std::span<const std::byte> name,
                      Take(place, static_cast<size_t>(name_bytes)));
  tensor.name.assign(reinterpret_cast<const char*>(name.data()), name.size());
  const std::string shown = absl::CHexEscape(tensor.name);
  if (shown != tensor.name) {
    return Refuse(place, StrCat("expected a printable name, found \"", shown, "\""));
  }
  DS_ASSIGN_OR_RETURN(tensor.dtype, ToDType(tensor.name, dtype_number));
  const std::optional<size_t> bytes = TensorBytes(tensor.dtype, tensor.shape);
  if (!bytes.has_value()) {
    return Refuse(tensor.name,
                  StrCat("expected a size below 2^63 bytes, found ", ShapeString(tensor.shape)));
  }
  DS_ASSIGN_OR_RETURN(tensor.data, Take(tensor.name, *bytes));

  const std::string_view in_block = InBlock(tensor.name);
  if (in_block == kFusedMixes) {
    if (tensor.shape.front() != static_cast<int64_t>(kMixes.size())) {
      return Refuse(tensor.name,
                    StrCat("expected [6, 1, ", width_, "], found ", ShapeString(tensor.shape)));
    }
    AddFusedMixes(tensor);
  } else if (std::find(kLowRank.begin(), kLowRank.end(), in_block) != kLowRank.end()) {
    if (rank != 2) {
      return Refuse(tensor.name, StrCat("expected a matrix, found ", ShapeString(tensor.shape)));
    }
    AddTransposed(tensor);
  } else {
    tensors_.push_back(std::move(tensor));
  }
  return absl::OkStatus();
}

// [6, 1, D] becomes six of [1, D].
void Reader::AddFusedMixes(const Tensor& fused) {
  const std::string prefix =
      fused.name.substr(0, fused.name.size() - std::string_view("x_rwkvag").size());
  const size_t bytes = fused.data.size() / kMixes.size();
  for (size_t i = 0; i < kMixes.size(); ++i) {
    tensors_.push_back({.name = StrCat(prefix, kMixes[i]),
                        .dtype = fused.dtype,
                        .shape = {fused.shape.begin() + 1, fused.shape.end()},
                        .data = fused.data.subspan(i * bytes, bytes)});
  }
}

// [out, in] becomes [in, out].
void Reader::AddTransposed(const Tensor& tensor) {
  std::vector<std::byte>& out = memory_->transposed.emplace_back(Transposed(tensor));
  // The bytes stay where they are when the vector of vectors grows.
  tensors_.push_back({.name = tensor.name,
                      .dtype = tensor.dtype,
                      .shape = {tensor.shape[1], tensor.shape[0]},
                      .data = out});
}

// The header's sizes are those of the tensors.
absl::Status Reader::CheckAgainstHeader(const TensorSet& set) const {
  const int64_t embedding[] = {vocab_, width_};
  DS_RETURN_IF_ERROR(set.Require("emb.weight", embedding).status());
  const int64_t norm[] = {width_};
  DS_RETURN_IF_ERROR(set.Require(StrCat("blocks.", layers_ - 1, ".ln1.weight"), norm).status());
  const std::string beyond = StrCat("blocks.", layers_, ".ln1.weight");
  if (set.Find(beyond) != nullptr) {
    return Refuse(beyond, StrCat("expected ", layers_, " layers, found more"));
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorSet> Reader::Read() {
  DS_RETURN_IF_ERROR(ReadHeader());
  while (!rest_.empty()) DS_RETURN_IF_ERROR(ReadTensor());
  DS_ASSIGN_OR_RETURN(const TensorSet set,
                      TensorSet::Make(source_, std::move(tensors_), {}, memory_));
  DS_RETURN_IF_ERROR(CheckAgainstHeader(set));
  return NormalForm(set);
}

}  // namespace

absl::StatusOr<TensorSet> ParseGgmf(std::string source, std::span<const std::byte> bytes,
                                    std::shared_ptr<const void> memory) {
  return Reader(std::move(source), bytes, std::move(memory)).Read();
}

absl::StatusOr<TensorSet> ReadGgmf(const std::string& path) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  return ParseGgmf(path, file->bytes(), file);
}

}  // namespace dreamstate::tensors
