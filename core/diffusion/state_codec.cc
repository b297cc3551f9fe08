#include "core/diffusion/state_codec.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/diffusion/codes.h"

namespace dreamstate::diffusion {
namespace {

using torch::Tensor;

Tensor View(std::span<const float> values, std::vector<int64_t> shape) {
  return torch::from_blob(const_cast<float*>(values.data()), shape, torch::kFloat);
}

std::vector<float> ToVector(const Tensor& tensor) {
  const Tensor flat = tensor.to(torch::kCPU, torch::kFloat).contiguous();
  const float* data = flat.const_data_ptr<float>();
  return {data, data + flat.numel()};
}

// I - 11^T / n
Tensor WithoutGauge(int64_t n) {
  return torch::eye(n, torch::kDouble) -
         torch::full({n, n}, 1.0 / static_cast<double>(n), torch::kDouble);
}

// Eigenvectors [..., n, n] as columns, strongest first, each with its largest entry positive, so
// that the same states give the same codec everywhere.
Tensor Eigenvectors(const Tensor& symmetric) {
  Tensor vectors = std::get<1>(torch::linalg_eigh(symmetric)).flip({-1});
  const Tensor largest = vectors.abs().argmax(-2, /*keepdim=*/true);
  return vectors * vectors.gather(-2, largest).sign();
}

// [B][heads][N][N] -> [B][heads][4][N/2][N/2] and back.
Tensor ToBlocks(const Tensor& cores, int64_t half) {
  return cores.view({cores.size(0), cores.size(1), 2, half, 2, half})
      .permute({0, 1, 2, 4, 3, 5})
      .reshape({cores.size(0), cores.size(1), kBlocksOfAHead, half, half});
}
Tensor FromBlocks(const Tensor& blocks, int64_t half) {
  return blocks.view({blocks.size(0), blocks.size(1), 2, 2, half, half})
      .permute({0, 1, 2, 4, 3, 5})
      .reshape({blocks.size(0), blocks.size(1), 2 * half, 2 * half});
}

// States that are worked on at once: a few hundred megabytes at most.
constexpr int64_t kBatch = 256;
// Least scale of a block, of its head's root mean square.
constexpr double kLeastShare = 1e-2;

}  // namespace

StateCodec::StateCodec(const state::Shape& shape, int blocks) : shape_(shape), blocks_(blocks) {}

absl::StatusOr<StateCodec> StateCodec::Fit(const state::Shape& shape, std::span<const float> wkv,
                                           std::span<const float> shift, int blocks) {
  DS_RETURN_IF_ERROR(shape.Validate());
  if (shape.head_size % 2 != 0) {
    return absl::InvalidArgumentError(
        StrCat("codec: expected an even head size, found ", shape.head_size));
  }
  if (blocks < 1 || blocks > kBlocksOfAHead) {
    return absl::InvalidArgumentError(
        StrCat("codec: expected 1 to ", kBlocksOfAHead, " blocks of a head, found ", blocks));
  }
  const int64_t count = static_cast<int64_t>(wkv.size()) / shape.wkv_elements();
  if (count < 2 || count * shape.wkv_elements() != static_cast<int64_t>(wkv.size()) ||
      count * shape.shift_elements() != static_cast<int64_t>(shift.size())) {
    return absl::InvalidArgumentError(StrCat("codec: expected at least two whole states, found ",
                                             wkv.size(), " and ", shift.size(), " values"));
  }
  const torch::NoGradGuard no_gradients;
  StateCodec codec(shape, blocks);
  const int64_t n = shape.head_size, heads = int64_t{shape.layers} * shape.heads;
  const Tensor all = View(wkv, {count, heads, n, n});
  const Tensor projection = WithoutGauge(n);
  const auto batch = [&](int64_t begin) {
    return projection.matmul(
        all.narrow(0, begin, std::min(kBatch, count - begin)).to(torch::kDouble));
  };
  const auto sums = [&] { return torch::zeros({heads, n, n}, torch::kDouble); };
  Tensor mean = sums();
  for (int64_t begin = 0; begin < count; begin += kBatch) mean += batch(begin).sum(0);
  mean /= static_cast<double>(count);
  if (!torch::isfinite(mean).all().item<bool>()) {
    return absl::InvalidArgumentError("codec: expected finite states");
  }
  Tensor value_side = sums(), key_side = sums();
  for (int64_t begin = 0; begin < count; begin += kBatch) {
    const Tensor centred = batch(begin) - mean;
    value_side += torch::matmul(centred, centred.transpose(-1, -2)).sum(0);
    key_side += torch::matmul(centred.transpose(-1, -2), centred).sum(0);
  }
  const Tensor values = Eigenvectors(value_side), keys = Eigenvectors(key_side);
  Tensor squares = torch::zeros({heads, kBlocksOfAHead}, torch::kDouble);
  for (int64_t begin = 0; begin < count; begin += kBatch) {
    const Tensor cores = values.transpose(-1, -2).matmul(batch(begin) - mean).matmul(keys);
    squares += ToBlocks(cores, n / 2).square().mean({-1, -2}).sum(0);
  }
  // A block that never moves (its layer is not used) is left at its mean, whatever is decoded. One
  // that few training states hardly moved is not blown up: others may move it as they do the rest.
  const Tensor measured = (squares / static_cast<double>(count)).sqrt();
  const Tensor of_head = squares.mean({1}, /*keepdim=*/true).div(static_cast<double>(count)).sqrt();
  const Tensor scale = torch::maximum(measured, kLeastShare * of_head).clamp_min(1e-8);
  codec.mean_ = ToVector(mean);
  codec.values_ = ToVector(values);
  codec.keys_ = ToVector(keys);
  codec.scale_ = ToVector(scale.narrow(1, 0, blocks));
  codec.shift_ = ToVector(View(shift, {count, shape.shift_elements()}).to(torch::kDouble).mean(0));
  for (const float value : codec.shift_) {
    if (!std::isfinite(value)) return absl::InvalidArgumentError("codec: expected finite states");
  }
  return codec;
}

void StateCodec::Encode(std::span<const float> wkv, std::span<float> code) const {
  const torch::NoGradGuard no_gradients;
  const int64_t n = shape_.head_size, heads = int64_t{shape_.layers} * shape_.heads;
  const int64_t count = static_cast<int64_t>(wkv.size()) / shape_.wkv_elements();
  const Tensor all = View(wkv, {count, heads, n, n});
  const Tensor out = View(code, {count, heads, blocks_, n / 2, n / 2});
  const Tensor mean = View(mean_, {heads, n, n}), keys = View(keys_, {heads, n, n});
  // P is inside the rotation: the mean has no gauge, and P is symmetric.
  const Tensor left =
      View(values_, {heads, n, n}).transpose(-1, -2).matmul(WithoutGauge(n).to(torch::kFloat));
  const Tensor scale = View(scale_, {heads, blocks_, 1, 1});
  for (int64_t begin = 0; begin < count; begin += kBatch) {
    const int64_t size = std::min(kBatch, count - begin);
    const Tensor cores = left.matmul(all.narrow(0, begin, size) - mean).matmul(keys);
    out.narrow(0, begin, size).copy_(ToBlocks(cores, n / 2).narrow(2, 0, blocks_) / scale);
  }
}

void StateCodec::Decode(std::span<const float> code, std::span<float> wkv) const {
  const torch::NoGradGuard no_gradients;
  const int64_t count = static_cast<int64_t>(code.size()) / code_elements();
  const CodeDecoder decoder(*this, torch::kCPU);
  const Tensor all = View(code, {count, tokens(), token_size()});
  const Tensor out =
      View(wkv, {count, shape_.layers, shape_.heads, shape_.head_size, shape_.head_size});
  for (int64_t begin = 0; begin < count; begin += kBatch) {
    const int64_t size = std::min(kBatch, count - begin);
    out.narrow(0, begin, size).copy_(decoder.Decode(all.narrow(0, begin, size)));
  }
}

CodeDecoder::CodeDecoder(const StateCodec& codec, torch::Device device) : shape_(codec.shape()) {
  const int64_t n = shape_.head_size, heads = int64_t{shape_.layers} * shape_.heads;
  mean_ = View(codec.mean_, {heads, n, n}).to(device);
  values_ = View(codec.values_, {heads, n, n}).to(device);
  keys_ = View(codec.keys_, {heads, n, n}).transpose(-1, -2).to(device);
  scale_ = View(codec.scale_, {heads, codec.blocks(), 1, 1}).to(device);
}

Tensor CodeDecoder::Decode(const Tensor& code) const {
  const int64_t n = shape_.head_size, heads = int64_t{shape_.layers} * shape_.heads;
  const int64_t count = code.size(0), left_out = kBlocksOfAHead - scale_.size(1);
  Tensor blocks = code.reshape({count, heads, scale_.size(1), n / 2, n / 2}) * scale_;
  if (left_out > 0) {
    blocks = torch::cat(
        {blocks, torch::zeros({count, heads, left_out, n / 2, n / 2}, blocks.options())}, 2);
  }
  return (values_.matmul(FromBlocks(blocks, n / 2)).matmul(keys_) + mean_)
      .view({count, shape_.layers, shape_.heads, n, n});
}

state::State StateCodec::DecodeState(std::span<const float> code) const {
  state::State state = state::State::Empty(shape_);
  Decode(code, state.wkv);
  std::copy(shift_.begin(), shift_.end(), state.shift.begin());
  return state;
}

std::vector<tensors::Tensor> StateCodec::ToTensors() const {
  const int64_t l = shape_.layers, h = shape_.heads, n = shape_.head_size, d = shape_.width;
  const auto tensor = [](const char* name, tensors::Shape shape, const std::vector<float>& values) {
    return tensors::Tensor{.name = StrCat("codec.", name),
                           .dtype = tensors::DType::kF32,
                           .shape = std::move(shape),
                           .data = std::as_bytes(std::span(values))};
  };
  return {tensor("mean", {l, h, n, n}, mean_), tensor("values", {l, h, n, n}, values_),
          tensor("keys", {l, h, n, n}, keys_), tensor("scale", {l, h, blocks_}, scale_),
          tensor("shift", {l, 2, d}, shift_)};
}

absl::StatusOr<StateCodec> StateCodec::Load(const tensors::TensorSet& set) {
  constexpr int64_t kAny = -1;
  DS_ASSIGN_OR_RETURN(const tensors::Tensor* mean,
                      set.Require("codec.mean", tensors::Shape{kAny, kAny, kAny, kAny}));
  const int64_t l = mean->shape[0], h = mean->shape[1], n = mean->shape[2];
  constexpr int64_t kLargest = 1 << 20;
  if (l < 1 || h < 1 || n < 2 || n % 2 != 0 || std::max({l, h, n}) > kLargest) {
    return absl::InvalidArgumentError(
        StrCat("codec.mean: expected [L, H, N, N] with N even, found ",
               tensors::ShapeString(mean->shape)));
  }
  state::Shape shape = {.layers = static_cast<int>(l),
                        .width = static_cast<int>(h * n),
                        .heads = static_cast<int>(h),
                        .head_size = static_cast<int>(n)};
  DS_RETURN_IF_ERROR(shape.Validate());
  DS_ASSIGN_OR_RETURN(const tensors::Tensor* scale,
                      set.Require("codec.scale", tensors::Shape{l, h, kAny}));
  const int64_t blocks = scale->shape[2];
  if (blocks < 1 || blocks > kBlocksOfAHead) {
    return absl::InvalidArgumentError(
        StrCat("codec.scale: expected 1 to ", kBlocksOfAHead, " blocks of a head, found ", blocks));
  }
  StateCodec codec(shape, static_cast<int>(blocks));
  const auto read = [&set](const char* name, const tensors::Shape& expected,
                           std::vector<float>* out) -> absl::Status {
    DS_ASSIGN_OR_RETURN(const tensors::Tensor* found, set.Require(name, expected));
    out->resize(static_cast<size_t>(found->elements()));
    return tensors::ToFloat(*found, *out);
  };
  DS_RETURN_IF_ERROR(read("codec.mean", {l, h, n, n}, &codec.mean_));
  DS_RETURN_IF_ERROR(read("codec.values", {l, h, n, n}, &codec.values_));
  DS_RETURN_IF_ERROR(read("codec.keys", {l, h, n, n}, &codec.keys_));
  DS_RETURN_IF_ERROR(read("codec.scale", {l, h, blocks}, &codec.scale_));
  DS_RETURN_IF_ERROR(read("codec.shift", {l, 2, h * n}, &codec.shift_));
  return codec;
}

}  // namespace dreamstate::diffusion
