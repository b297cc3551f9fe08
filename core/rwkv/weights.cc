#include "core/rwkv/weights.h"

#include <array>
#include <cmath>
#include <new>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/rwkv/footprint.h"
#include "core/rwkv/tensor_shapes.h"
#include "kernels/norm/norm.h"
#include "kernels/runtime/bf16.h"

namespace dreamstate::rwkv {
namespace {

constexpr float kLayerNormEpsilon = 1e-5f;

// Takes tensors of a set by name, as fp32, checked; counts the bytes of what was packed.
class Reader {
 public:
  Reader(const tensors::TensorSet& set, WeightFormat format, const FormatPolicy& policy,
         kernels::Arena& arena, const Stopping& stopping)
      : set_(set), format_(format), policy_(policy), arena_(arena), stopping_(stopping) {}

  absl::StatusOr<Vector> ReadVector(const std::string& name) {
    const tensors::Tensor* tensor = set_.Find(name);
    Vector values = kernels::MakeAligned<float>(tensor->elements());
    DS_RETURN_IF_ERROR(
        ReadFinite(*tensor, {values.get(), static_cast<size_t>(tensor->elements())}));
    bytes_ += tensor->elements() * sizeof(float);
    return values;
  }

  // [outputs][inputs].
  absl::StatusOr<kernels::PackedMatrix> ReadMatrix(const std::string& name, MatrixKind kind) {
    const bool int8 = format_ == WeightFormat::kInt8 && policy_.int8[static_cast<int>(kind)];
    return ReadMatrix(name, /*transposed=*/false, int8 ? WeightFormat::kInt8 : other_format());
  }
  // [inputs][outputs].
  absl::StatusOr<kernels::PackedMatrix> ReadLowRank(const std::string& name) {
    return ReadMatrix(name, /*transposed=*/true, other_format());
  }

  size_t bytes() const { return bytes_; }
  const std::array<int, 3>& matrices() const { return matrices_; }

 private:
  // Of what is never int8.
  WeightFormat other_format() const {
    return format_ == WeightFormat::kInt8 ? WeightFormat::kBfloat16 : format_;
  }

  absl::StatusOr<kernels::PackedMatrix> ReadMatrix(const std::string& name, bool transposed,
                                                   WeightFormat format) {
    const tensors::Tensor* tensor = set_.Find(name);
    const tensors::Shape shape = Squeezed(tensor->shape, 2);
    const Vector values = kernels::MakeAligned<float>(tensor->elements());
    DS_RETURN_IF_ERROR(
        ReadFinite(*tensor, {values.get(), static_cast<size_t>(tensor->elements())}));
    if (format == WeightFormat::kBfloat16) {
      DS_RETURN_IF_ERROR(
          CheckFitsBf16(*tensor, {values.get(), static_cast<size_t>(tensor->elements())}));
    }
    kernels::PackedMatrix packed = kernels::PackedMatrix::Pack(
        values.get(), static_cast<int>(shape[transposed ? 1 : 0]),
        static_cast<int>(shape[transposed ? 0 : 1]), transposed, format, &arena_);
    bytes_ += packed.bytes();
    ++matrices_[static_cast<int>(format)];
    return packed;
  }

  // Every tensor comes through here.
  absl::Status ReadFinite(const tensors::Tensor& tensor, std::span<float> out) const {
    DS_RETURN_IF_ERROR(CheckStopping(stopping_));
    if (absl::Status status = tensors::ToFloat(tensor, out); !status.ok()) {
      return absl::Status(status.code(), StrCat(status.message(), " (", set_.source(), ")"));
    }
    for (size_t i = 0; i < out.size(); ++i) {
      if (!std::isfinite(out[i])) {
        return absl::InvalidArgumentError(StrCat(tensor.name, ": expected finite values, found ",
                                                 out[i], " at element ", i, " (", set_.source(),
                                                 ")"));
      }
    }
    return absl::OkStatus();
  }

  // What rounds to infinity spoils more than its own output: a tile multiplies what lies behind a
  // panel by zero (kernels/gemm/gemm_tiles.h), and infinity times zero is NaN.
  absl::Status CheckFitsBf16(const tensors::Tensor& tensor, std::span<const float> values) const {
    for (size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(kernels::Bf16ToFloat(kernels::FloatToBf16(values[i])))) {
        return absl::InvalidArgumentError(
            StrCat(tensor.name, ": expected values that bf16 can hold, up to 3.39e38, found ",
                   values[i], " at element ", i, " (", set_.source(), ")"));
      }
    }
    return absl::OkStatus();
  }

  const tensors::TensorSet& set_;
  WeightFormat format_;
  const FormatPolicy& policy_;
  kernels::Arena& arena_;
  const Stopping& stopping_;
  size_t bytes_ = 0;
  std::array<int, 3> matrices_ = {};
};

#define DS_READ(target, call) DS_ASSIGN_OR_RETURN(target, reader.call)

absl::Status ReadTimeMix(Reader& reader, const std::string& block, bool first,
                         TimeMixWeights* out) {
  DS_READ(out->ln_weight, ReadVector(block + "ln1.weight"));
  DS_READ(out->ln_bias, ReadVector(block + "ln1.bias"));
  const std::string att = block + "att.";
  DS_READ(out->x_r, ReadVector(att + "x_r"));
  DS_READ(out->x_w, ReadVector(att + "x_w"));
  DS_READ(out->x_k, ReadVector(att + "x_k"));
  DS_READ(out->x_v, ReadVector(att + "x_v"));
  DS_READ(out->x_a, ReadVector(att + "x_a"));
  DS_READ(out->x_g, ReadVector(att + "x_g"));
  DS_READ(out->w0, ReadVector(att + "w0"));
  DS_READ(out->a0, ReadVector(att + "a0"));
  DS_READ(out->k_k, ReadVector(att + "k_k"));
  DS_READ(out->k_a, ReadVector(att + "k_a"));
  DS_READ(out->r_k, ReadVector(att + "r_k"));
  DS_READ(out->ln_x_weight, ReadVector(att + "ln_x.weight"));
  DS_READ(out->ln_x_bias, ReadVector(att + "ln_x.bias"));
  DS_READ(out->receptance, ReadMatrix(att + "receptance.weight", MatrixKind::kReceptance));
  DS_READ(out->key, ReadMatrix(att + "key.weight", MatrixKind::kKey));
  DS_READ(out->value, ReadMatrix(att + "value.weight", MatrixKind::kValue));
  DS_READ(out->output, ReadMatrix(att + "output.weight", MatrixKind::kOutput));
  DS_READ(out->w1, ReadLowRank(att + "w1"));
  DS_READ(out->w2, ReadLowRank(att + "w2"));
  DS_READ(out->a1, ReadLowRank(att + "a1"));
  DS_READ(out->a2, ReadLowRank(att + "a2"));
  DS_READ(out->g1, ReadLowRank(att + "g1"));
  DS_READ(out->g2, ReadLowRank(att + "g2"));
  if (first) return absl::OkStatus();
  DS_READ(out->v0, ReadVector(att + "v0"));
  DS_READ(out->v1, ReadLowRank(att + "v1"));
  DS_READ(out->v2, ReadLowRank(att + "v2"));
  return absl::OkStatus();
}

absl::Status ReadChannelMix(Reader& reader, const std::string& block, ChannelMixWeights* out) {
  DS_READ(out->ln_weight, ReadVector(block + "ln2.weight"));
  DS_READ(out->ln_bias, ReadVector(block + "ln2.bias"));
  DS_READ(out->x_k, ReadVector(block + "ffn.x_k"));
  DS_READ(out->key, ReadMatrix(block + "ffn.key.weight", MatrixKind::kFfnKey));
  DS_READ(out->value, ReadMatrix(block + "ffn.value.weight", MatrixKind::kFfnValue));
  return absl::OkStatus();
}

// emb with ln0 applied to every row: what the first layer reads, computed once.
absl::Status ReadEmbedding(Reader& reader, Weights* weights) {
  const int64_t vocab = weights->config.vocab;
  const int width = weights->config.width;
  DS_ASSIGN_OR_RETURN(Vector embedding, reader.ReadVector("emb.weight"));
  DS_ASSIGN_OR_RETURN(const Vector weight, reader.ReadVector("blocks.0.ln0.weight"));
  DS_ASSIGN_OR_RETURN(const Vector bias, reader.ReadVector("blocks.0.ln0.bias"));
  kernels::ThreadPool inline_pool(1);
  kernels::LayerNorm(embedding.get(), weight.get(), bias.get(), kLayerNormEpsilon,
                     static_cast<int>(vocab), width, embedding.get(), inline_pool);
  if (weights->format == WeightFormat::kFloat32) {
    weights->embedding_f32 = std::move(embedding);
    return absl::OkStatus();
  }
  weights->embedding_bf16 = kernels::MakeAligned<uint16_t>(vocab * width);
  for (int64_t i = 0; i < vocab * width; ++i)
    weights->embedding_bf16[i] = kernels::FloatToBf16(embedding[i]);
  return absl::OkStatus();
}

absl::Status Read(const tensors::TensorSet& set, const FormatPolicy& policy,
                  const Stopping& stopping, Weights* weights) {
  DS_RETURN_IF_ERROR(CheckTensors(set, weights->config));
  // More than the matrices alone take.
  weights->arena = std::make_unique<kernels::Arena>(
      static_cast<size_t>(EstimateLoadBytes(set, weights->format, policy)));
  Reader reader(set, weights->format, policy, *weights->arena, stopping);
  DS_RETURN_IF_ERROR(ReadEmbedding(reader, weights));
  const size_t embedding_f32_bytes = reader.bytes();
  weights->layers.resize(weights->config.layers);
  for (int layer = 0; layer < weights->config.layers; ++layer) {
    const std::string block = StrCat("blocks.", layer, ".");
    DS_RETURN_IF_ERROR(ReadTimeMix(reader, block, layer == 0, &weights->layers[layer].time_mix));
    DS_RETURN_IF_ERROR(ReadChannelMix(reader, block, &weights->layers[layer].channel_mix));
  }
  DS_READ(weights->ln_out_weight, ReadVector("ln_out.weight"));
  DS_READ(weights->ln_out_bias, ReadVector("ln_out.bias"));
  DS_READ(weights->head, ReadMatrix("head.weight", MatrixKind::kHead));
  weights->matrices = reader.matrices();
  // A step looks one row of the embedding up and reads all else.
  weights->step_bytes = reader.bytes() - embedding_f32_bytes;
  const size_t embedding_bytes =
      size_t{weights->format == WeightFormat::kFloat32 ? sizeof(float) : sizeof(uint16_t)} *
      weights->config.vocab * weights->config.width;
  weights->bytes = weights->step_bytes + embedding_bytes;
  return absl::OkStatus();
}

#undef DS_READ

}  // namespace

std::string_view WeightFormatName(WeightFormat format) {
  switch (format) {
    case WeightFormat::kFloat32:
      return "fp32";
    case WeightFormat::kBfloat16:
      return "bf16";
    case WeightFormat::kInt8:
      return "int8";
  }
  return "";
}

absl::StatusOr<WeightFormat> ParseWeightFormat(std::string_view name) {
  for (const WeightFormat format :
       {WeightFormat::kFloat32, WeightFormat::kBfloat16, WeightFormat::kInt8}) {
    if (name == WeightFormatName(format)) return format;
  }
  return absl::InvalidArgumentError(
      StrCat("weight format: expected fp32, bf16 or int8, found \"", name, "\""));
}

absl::StatusOr<std::shared_ptr<const Weights>> Weights::Load(const tensors::TensorSet& set,
                                                             WeightFormat format,
                                                             const FormatPolicy& policy,
                                                             const Stopping& stopping) {
  // The one place where running out of memory is an answer and not the end: a model may be larger
  // than the machine.
  try {
    auto weights = std::make_shared<Weights>();
    DS_ASSIGN_OR_RETURN(weights->config, Config::FromTensors(set));
    weights->format = format;
    if (format == WeightFormat::kInt8) weights->policy = policy;
    DS_RETURN_IF_ERROR(Read(set, policy, stopping, weights.get()));
    DS_ASSIGN_OR_RETURN(weights->fingerprint, tensors::Fingerprint(set, stopping));
    return std::shared_ptr<const Weights>(std::move(weights));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(StrCat("no memory for the weights of ", set.source()));
  }
}

}  // namespace dreamstate::rwkv
