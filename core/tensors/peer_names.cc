#include "core/tensors/peer_names.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/tensors/transposed.h"

namespace dreamstate::tensors {
namespace {

constexpr std::array<std::string_view, 8> kLowRank = {"att.w1", "att.w2", "att.a1", "att.a2",
                                                      "att.v1", "att.v2", "att.g1", "att.g2"};
constexpr std::string_view kFlaEmbedding = "model.embeddings.weight";
constexpr std::string_view kFlaLayers = "model.layers.";
constexpr std::string_view kFlaFusedMixes = "attn.x_x";
constexpr std::array<std::string_view, 6> kMixes = {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"};

struct Rename {
  std::string_view from, to;
};

constexpr Rename kFlaOutside[] = {{kFlaEmbedding, "emb.weight"},
                                  {"model.norm.weight", "ln_out.weight"},
                                  {"model.norm.bias", "ln_out.bias"},
                                  {"lm_head.weight", "head.weight"}};

// Inside a layer, the beginnings of names; the first that fits.
constexpr Rename kFlaInside[] = {{"pre_norm.", "ln0."},
                                 {"attn_norm.", "ln1."},
                                 {"ffn_norm.", "ln2."},
                                 {"attn.r_proj.", "att.receptance."},
                                 {"attn.k_proj.", "att.key."},
                                 {"attn.v_proj.", "att.value."},
                                 {"attn.o_proj.", "att.output."},
                                 {"attn.g_norm.", "att.ln_x."},
                                 {"attn.", "att."}};

// What the tensors point into: the file, and what had to be turned.
struct Memory {
  std::shared_ptr<const TensorSet> file;
  std::vector<std::vector<std::byte>> transposed;
};

class Converter {
 public:
  explicit Converter(const TensorSet& set) : set_(set) {
    memory_->file = std::make_shared<const TensorSet>(set);
  }

  absl::StatusOr<TensorSet> FromFla();
  absl::StatusOr<TensorSet> FromTransposed();

 private:
  absl::Status Refuse(const Tensor& tensor, std::string_view expected) const {
    return absl::InvalidArgumentError(StrCat(tensor.name, ": expected ", expected, ", found ",
                                             DTypeName(tensor.dtype), " ",
                                             ShapeString(tensor.shape), " (", set_.source(), ")"));
  }
  absl::Status AddInLayer(const Tensor& tensor);
  absl::Status AddLowRank(const Tensor& tensor, const std::string& block, std::string_view inside);
  absl::Status AddFusedMixes(const Tensor& tensor, const std::string& block);
  absl::Status AddTransposed(const Tensor& tensor, std::string name);
  void Add(Tensor tensor, std::string name) {
    tensor.name = std::move(name);
    tensors_.push_back(std::move(tensor));
  }
  absl::StatusOr<TensorSet> Finish() {
    return TensorSet::Make(set_.source(), std::move(tensors_), set_.metadata(), memory_);
  }

  const TensorSet& set_;
  std::vector<Tensor> tensors_;
  std::shared_ptr<Memory> memory_ = std::make_shared<Memory>();
};

absl::Status Converter::AddTransposed(const Tensor& tensor, std::string name) {
  if (tensor.shape.size() != 2) return Refuse(tensor, "a matrix");
  std::vector<std::byte>& out = memory_->transposed.emplace_back(Transposed(tensor));
  // The bytes stay where they are when the vector of vectors grows.
  Add({.name = {}, .dtype = tensor.dtype, .shape = {tensor.shape[1], tensor.shape[0]}, .data = out},
      std::move(name));
  return absl::OkStatus();
}

// "attn.w_lora.lora.0.weight" is w1, …2.weight is w2, both as [out, in]; …2.bias is w0.
absl::Status Converter::AddLowRank(const Tensor& tensor, const std::string& block,
                                   std::string_view inside) {
  const std::string stem =
      StrCat(block, "att.", inside.substr(std::string_view("attn.").size(), 1));
  const std::string_view part = inside.substr(std::string_view("attn.w_lora.lora.").size());
  if (part == "0.weight") return AddTransposed(tensor, stem + "1");
  if (part == "2.weight") return AddTransposed(tensor, stem + "2");
  Add(tensor, part == "2.bias" ? stem + "0" : tensor.name);
  return absl::OkStatus();
}

// [6, D] or [6, 1, D].
absl::Status Converter::AddFusedMixes(const Tensor& tensor, const std::string& block) {
  if (tensor.shape.size() < 2 || tensor.shape.front() != static_cast<int64_t>(kMixes.size())) {
    return Refuse(tensor, "[6, width]");
  }
  const size_t bytes = tensor.data.size() / kMixes.size();
  for (size_t i = 0; i < kMixes.size(); ++i) {
    Add({.name = {},
         .dtype = tensor.dtype,
         .shape = {tensor.shape.begin() + 1, tensor.shape.end()},
         .data = tensor.data.subspan(i * bytes, bytes)},
        StrCat(block, "att.", kMixes[i]));
  }
  return absl::OkStatus();
}

absl::Status Converter::AddInLayer(const Tensor& tensor) {
  const std::string_view rest = std::string_view(tensor.name).substr(kFlaLayers.size());
  const size_t dot = rest.find('.');
  if (dot == std::string_view::npos) {
    Add(tensor, tensor.name);
    return absl::OkStatus();
  }
  const std::string block = StrCat("blocks.", rest.substr(0, dot + 1));
  const std::string_view inside = rest.substr(dot + 1);
  if (inside == kFlaFusedMixes) return AddFusedMixes(tensor, block);
  for (const std::string_view letter : {"w", "a", "v", "g"}) {
    if (inside.starts_with(StrCat("attn.", letter, "_lora.lora."))) {
      return AddLowRank(tensor, block, inside);
    }
  }
  for (const Rename& rename : kFlaInside) {
    if (!inside.starts_with(rename.from)) continue;
    Add(tensor, StrCat(block, rename.to, inside.substr(rename.from.size())));
    return absl::OkStatus();
  }
  Add(tensor, StrCat(block, inside));
  return absl::OkStatus();
}

absl::StatusOr<TensorSet> Converter::FromFla() {
  for (const Tensor& tensor : set_.tensors()) {
    if (tensor.name.starts_with(kFlaLayers)) {
      DS_RETURN_IF_ERROR(AddInLayer(tensor));
      continue;
    }
    const auto* rename =
        std::find_if(std::begin(kFlaOutside), std::end(kFlaOutside),
                     [&](const Rename& known) { return known.from == tensor.name; });
    Add(tensor, rename == std::end(kFlaOutside) ? tensor.name : std::string(rename->to));
  }
  return Finish();
}

bool IsLowRank(std::string_view name) {
  return name.starts_with("blocks.") &&
         std::any_of(kLowRank.begin(), kLowRank.end(), [name](std::string_view matrix) {
           return name.ends_with(StrCat(".", matrix));
         });
}

absl::StatusOr<TensorSet> Converter::FromTransposed() {
  for (const Tensor& tensor : set_.tensors()) {
    if (IsLowRank(tensor.name)) {
      DS_RETURN_IF_ERROR(AddTransposed(tensor, tensor.name));
    } else {
      Add(tensor, tensor.name);
    }
  }
  return Finish();
}

// Whether w1 is [rank, width]; as [width, rank] it is official. A rank as large as the width would
// not tell, and nobody trains one.
bool HasTransposedLowRank(const TensorSet& set) {
  const Tensor* embedding = set.Find("emb.weight");
  const Tensor* w1 = set.Find("blocks.0.att.w1");
  if (embedding == nullptr || w1 == nullptr || embedding->shape.size() != 2) return false;
  const int64_t width = embedding->shape[1];
  return w1->shape.size() == 2 && w1->shape[0] != width && w1->shape[1] == width;
}

}  // namespace

absl::StatusOr<TensorSet> OfficialNames(const TensorSet& set) {
  if (set.Find(kFlaEmbedding) != nullptr) return Converter(set).FromFla();
  if (HasTransposedLowRank(set)) return Converter(set).FromTransposed();
  return set;
}

}  // namespace dreamstate::tensors
