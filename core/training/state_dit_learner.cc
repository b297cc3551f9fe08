#include "core/training/state_dit_learner.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/diffusion/codes.h"
#include "core/diffusion/dit.h"
#include "core/diffusion/flow.h"
#include "core/diffusion/state_codec.h"
#include "core/tensors/import.h"
#include "core/tensors/safetensors.h"
#include "core/training/backbone.h"
#include "core/training/fork_on_torch.h"
#include "core/training/learner_parts.h"
#include "core/training/loss.h"
#include "core/training/optimiser.h"

namespace dreamstate::training {
namespace {

using torch::Tensor;

// Where rows are validated.
constexpr double kTimes[] = {0.1, 0.3, 0.5, 0.7, 0.9};

// One tensor of a shard as fp32 values.
absl::StatusOr<std::vector<float>> Values(const tensors::TensorSet& set, const char* name) {
  const tensors::Tensor* tensor = set.Find(name);
  if (tensor == nullptr) {
    return absl::InvalidArgumentError(StrCat(set.source(), ": expected the tensor ", name));
  }
  std::vector<float> values(static_cast<size_t>(tensor->elements()));
  DS_RETURN_IF_ERROR(tensors::ToFloat(*tensor, values));
  DS_RETURN_IF_ERROR(tensors::CheckNothingLost(set));
  return values;
}

absl::Status Replaced(const std::string& shard) {
  return absl::DataLossError(StrCat(shard, ": was replaced by a smaller one while it was read"));
}

// Fitted on `wanted` training states that lie evenly over the data set.
absl::StatusOr<diffusion::StateCodec> FitCodec(const StateRecords& records, int64_t wanted,
                                               int blocks) {
  const state::Shape& shape = records.info().shape;
  const int64_t count = std::min(wanted, records.training());
  std::vector<float> wkv, shift;
  wkv.reserve(static_cast<size_t>(count * shape.wkv_elements()));
  shift.reserve(static_cast<size_t>(count * shape.shift_elements()));
  int32_t shard = -1;
  std::vector<float> shard_wkv, shard_shift;
  for (int64_t i = 0; i < count; ++i) {
    const StateRecord& record = records.all()[i * records.training() / count];
    if (record.shard != shard) {
      shard = record.shard;
      DS_ASSIGN_OR_RETURN(const StateShard content,
                          records.dataset().ReadShard(Split::kTrain, shard));
      DS_ASSIGN_OR_RETURN(shard_wkv, Values(content.tensors, "wkv"));
      DS_ASSIGN_OR_RETURN(shard_shift, Values(content.tensors, "shift"));
    }
    if (static_cast<size_t>(record.row + 1) * static_cast<size_t>(shape.wkv_elements()) >
        shard_wkv.size()) {
      return Replaced(records.dataset().ShardPath(Split::kTrain, shard));
    }
    const auto append = [&record](const std::vector<float>& from, int64_t elements,
                                  std::vector<float>* to) {
      const auto begin = from.begin() + record.row * elements;
      to->insert(to->end(), begin, begin + elements);
    };
    append(shard_wkv, shape.wkv_elements(), &wkv);
    append(shard_shift, shape.shift_elements(), &shift);
  }
  return diffusion::StateCodec::Fit(shape, wkv, shift, blocks);
}

absl::StatusOr<diffusion::StateCodec> ReadOrFitCodec(const StateRecords& records,
                                                     const StateDitOptions& options) {
  if (options.initial != nullptr) return diffusion::StateCodec::Load(*options.initial);
  if (!options.codec.empty()) {
    const auto set = tensors::ReadSafetensors(options.codec);
    if (set.ok()) return diffusion::StateCodec::Load(*set);
    if (!absl::IsNotFound(set.status())) return set.status();
  }
  absl::StatusOr<diffusion::StateCodec> codec =
      FitCodec(records, options.codec_states, options.sizes.blocks);
  if (!codec.ok()) return WithPrefix(records.dataset().directory(), codec.status());
  if (!options.codec.empty()) {
    DS_RETURN_IF_ERROR(tensors::WriteSafetensors(options.codec, codec->ToTensors(), {}));
  }
  return codec;
}

// The frozen backbone, which says what a made state is worth.
class FrozenBackbone {
 public:
  FrozenBackbone(const BackboneSizes& sizes, const diffusion::StateCodec& codec,
                 torch::Device device, torch::ScalarType products, int threads)
      : pool_(threads, ForkOnTorch),
        backbone_(sizes, device, torch::kFloat, pool_),
        decoder_(codec, device),
        products_(products) {
    const state::Shape& shape = codec.shape();
    shift_ = torch::tensor(std::vector<float>(codec.shift().begin(), codec.shift().end()))
                 .view({1, shape.layers, 2, shape.width})
                 .to(device);
  }
  absl::Status Load(const tensors::TensorSet& set) {
    backbone_.RequireGradients(false);
    return backbone_.Load(set);
  }
  int vocab() const { return backbone_.sizes().vocab; }

  // code [B][G][K], tokens [B][T] and positions [M] of B * T -> their logits [M][V], read behind
  // the codes' states with the mean shift vectors.
  Tensor Logits(const Tensor& code, const Tensor& tokens, const Tensor& at) const {
    const BackboneState initial = {.shift = shift_.expand({code.size(0), -1, -1, -1}).contiguous(),
                                   .wkv = decoder_.Decode(code)};
    const Tensor hidden = backbone_.Forward(tokens, initial, products_).hidden.flatten(0, 1);
    return backbone_.Head(hidden.index_select(0, at), products_);
  }

 private:
  kernels::ThreadPool pool_;
  Backbone backbone_;
  const diffusion::CodeDecoder decoder_;
  const torch::ScalarType products_;
  Tensor shift_;
};

class StateDitLearner : public Learner {
 public:
  StateDitLearner(std::shared_ptr<const StateRecords> records, const StateDitOptions& options,
                  const diffusion::DitSizes& sizes, diffusion::StateCodec codec,
                  torch::Device device)
      : records_(std::move(records)),
        options_(options),
        codec_(std::move(codec)),
        device_(device),
        products_(ProductsOn(device, options.bf16)),
        dit_(sizes, device),
        optimiser_(options.optimiser, dit_.values(),
                   {dit_.decayed(), 0, dit_.values().numel() - dit_.decayed()}) {
    dit_.Initialise(options.seed);
    average_ = dit_.values().clone();
    options_.initial = options_.backbone = nullptr;  // need not outlive the call
  }

  // Both may be null.
  absl::Status Begin(const diffusion::Dit* initial, const tensors::TensorSet* backbone,
                     int threads) {
    if (initial != nullptr) {
      dit_.CopyFrom(*initial);
      average_.copy_(dit_.values());
    }
    if (backbone == nullptr) return absl::OkStatus();
    DS_ASSIGN_OR_RETURN(const BackboneSizes sizes, SizesOf(*backbone));
    reader_ = std::make_unique<FrozenBackbone>(sizes, codec_, device_, products_, threads);
    return reader_->Load(*backbone);
  }

  // Reads every state as its code and every excerpt's activations.
  absl::Status ReadData() {
    const StateDatasetInfo& info = records_->info();
    const auto halves = torch::TensorOptions().dtype(torch::kHalf).device(device_);
    const auto states = static_cast<int64_t>(records_->all().size());
    codes_ = torch::empty({states, codec_.tokens(), codec_.token_size()}, halves);
    const int64_t documents = records_->excerpt_documents();
    excerpts_ = torch::empty(
        {documents * info.excerpts, info.excerpt_tokens, info.activation_width()}, halves);
    int64_t next = 0, next_excerpt = 0;
    for (const Split split : {Split::kTrain, Split::kValid}) {
      for (int shard = 0; shard < info.shards[static_cast<int>(split)]; ++shard) {
        DS_ASSIGN_OR_RETURN(const StateShard content, records_->dataset().ReadShard(split, shard));
        DS_ASSIGN_OR_RETURN(const std::vector<float> wkv, Values(content.tensors, "wkv"));
        std::vector<float> code(content.origins.size() *
                                static_cast<size_t>(codec_.code_elements()));
        codec_.Encode(wkv, code);
        const Tensor all = torch::from_blob(
            code.data(),
            {static_cast<int64_t>(content.origins.size()), codec_.tokens(), codec_.token_size()});
        constexpr float kLargestHalf = 65504;
        if (!(all.numel() == 0 || all.abs().max().item<float>() < kLargestHalf)) {
          return absl::InvalidArgumentError(
              StrCat(content.tensors.source(), ": expected finite states of usual size"));
        }
        for (; next < states && records_->all()[next].split == split &&
               records_->all()[next].shard == shard;
             ++next) {
          const int32_t row = records_->all()[next].row;
          if (static_cast<size_t>(row) >= content.origins.size()) {
            return Replaced(content.tensors.source());
          }
          codes_[next].copy_(all[row]);
        }
        const int64_t here = static_cast<int64_t>(content.excerpt_documents.size()) * info.excerpts;
        DS_ASSIGN_OR_RETURN(std::vector<float> activations,
                            Values(content.tensors, "excerpt.activations"));
        excerpts_.narrow(0, next_excerpt, here)
            .copy_(torch::from_blob(activations.data(),
                                    {here, info.excerpt_tokens, info.activation_width()}));
        next_excerpt += here;
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Step(const Batch& batch, double lr) override {
    DS_RETURN_IF_ERROR(Check(batch));
    return Guarded([&]() -> absl::StatusOr<StepResult> {
      // What a step draws depends on its number alone.
      torch::manual_seed(options_.seed * 0x9e3779b97f4a7c15u +
                         static_cast<uint64_t>(optimiser_.steps()));
      dit_.gradients().zero_();
      const Tensor code = Codes(batch);
      const Tensor t = diffusion::DrawTimes(options_.flow, batch.rows, device_);
      const diffusion::DitCondition condition = Condition(batch);
      Tensor loss =
          diffusion::FlowLoss(dit_, code, torch::randn_like(code), t, condition, products_).mean();
      if (reader_ != nullptr) {
        const ScoredPositions scored = FindScored(batch, 0, batch.rows, device_);
        const Tensor logits = TunedLogits(batch, condition, torch::randn_like(code), scored);
        loss = CrossEntropy(logits, scored.targets, static_cast<double>(scored.targets.size(0))) +
               options_.flow_weight * loss;
      }
      loss.backward();
      const Tensor sums = torch::stack({loss.detach(), dit_.gradients().norm()}).cpu();
      const float* values = sums.const_data_ptr<float>();
      const StepResult out = {.loss = values[0], .grad_norm = values[1], .tokens = batch.rows};
      if (!std::isfinite(out.loss) || !std::isfinite(out.grad_norm)) return out;
      const double clip = options_.optimiser.clip;
      optimiser_.Step(dit_.values(), dit_.gradients(), lr,
                      clip > 0 ? std::min(1.0, clip / (out.grad_norm + 1e-6)) : 1.0);
      const auto steps = static_cast<double>(optimiser_.steps());
      const double decay = std::min(options_.ema_decay, (1 + steps) / (10 + steps));
      const torch::NoGradGuard no_gradients;
      average_.lerp_(dit_.values(), 1 - decay);
      return out;
    });
  }

  absl::StatusOr<EvaluationResult> Evaluate(const Batch& batch) override {
    DS_RETURN_IF_ERROR(Check(batch));
    return Guarded([&]() -> absl::StatusOr<EvaluationResult> {
      const torch::NoGradGuard no_gradients;
      const Tensor trained = dit_.values().clone();
      dit_.values().copy_(average_);
      const Tensor code = Codes(batch);
      const Tensor noise =
          diffusion::SampleNoise(dit_.sizes(), options_.seed, batch.row.front().record, batch.rows)
              .to(device_);
      if (reader_ != nullptr) {
        const ScoredPositions scored = FindScored(batch, 0, batch.rows, device_);
        const EvaluationResult out = ResultOf(
            ScoreRows(TunedLogits(batch, Condition(batch), noise, scored), scored, batch.rows));
        dit_.values().copy_(trained);
        return out;
      }
      Tensor sum = torch::zeros({batch.rows}, code.options());
      for (const double time : kTimes) {
        sum +=
            diffusion::FlowLoss(dit_, code, noise, torch::full({batch.rows}, time, code.options()),
                                Condition(batch), products_);
      }
      dit_.values().copy_(trained);
      const Tensor rows =
          (sum / static_cast<double>(std::size(kTimes))).to(torch::kCPU, torch::kDouble);
      EvaluationResult out;
      for (int row = 0; row < batch.rows; ++row) {
        out.row_nll.push_back(rows[row].item<double>());
        out.row_scored.push_back(1);
        out.row_correct.push_back(0);
        out.nll += out.row_nll.back();
        ++out.scored;
      }
      return out;
    });
  }

  absl::Status Save(const std::string& directory) override {
    return Guarded([&] { return SaveTensors(directory, Saved(), optimiser_.steps()); });
  }
  absl::Status Restore(const std::string& directory) override {
    return Guarded([&]() -> absl::Status {
      DS_ASSIGN_OR_RETURN(const int64_t steps, RestoreTensors(directory, Saved()));
      optimiser_.set_steps(steps);
      return absl::OkStatus();
    });
  }

  absl::StatusOr<tensors::TensorSet> Export(bool fp32) override {
    return Guarded([&]() -> absl::StatusOr<tensors::TensorSet> {
      struct Memory {
        std::vector<std::string> bytes;
        diffusion::StateCodec codec;
      };
      const auto memory = std::make_shared<Memory>(Memory{{}, codec_});
      std::vector<tensors::Tensor> list = dit_.Export(average_, &memory->bytes);
      for (tensors::Tensor& tensor : memory->codec.ToTensors()) list.push_back(std::move(tensor));
      return tensors::TensorSet::Make("the state DiT in training", std::move(list), {}, memory);
    });
  }

  int64_t parameters() const override { return dit_.values().numel(); }
  std::string device() const override { return DeviceName(device_, products_); }

 private:
  // [M][V] behind the states of mode `tuned`.
  Tensor TunedLogits(const Batch& batch, diffusion::DitCondition condition, const Tensor& noise,
                     const ScoredPositions& scored) const {
    condition.tuned = true;
    const Tensor code =
        dit_.Forward(noise, torch::zeros({noise.size(0)}, noise.options()), condition, products_);
    const std::vector<int64_t> inputs(batch.inputs.begin(), batch.inputs.end());
    return reader_->Logits(code, ToDevice(inputs).view({batch.rows, batch.tokens}), scored.at);
  }

  // Tokens are there when, and only when, a backbone reads them.
  absl::Status CheckTokens(const Batch& batch) const {
    const size_t tokens =
        static_cast<size_t>(batch.rows) * static_cast<size_t>(std::max(batch.tokens, 0));
    if ((tokens > 0) != (reader_ != nullptr) || batch.inputs.size() != tokens ||
        batch.targets.size() != tokens) {
      return absl::InvalidArgumentError("batch: expected rows x tokens for a backbone to read");
    }
    bool any = reader_ == nullptr;
    for (size_t i = 0; i < tokens; ++i) {
      any = any || batch.targets[i] >= 0;
      if (batch.inputs[i] < 0 || batch.inputs[i] >= reader_->vocab() || batch.targets[i] < -1 ||
          batch.targets[i] >= reader_->vocab()) {
        return absl::InvalidArgumentError(
            StrCat("batch: expected tokens in [0, ", reader_->vocab(), ")"));
      }
    }
    return any ? absl::OkStatus()
               : absl::InvalidArgumentError("batch: expected targets to score, found none");
  }

  absl::Status Check(const Batch& batch) const {
    if (batch.rows < 1 || batch.row.size() != static_cast<size_t>(batch.rows)) {
      return absl::InvalidArgumentError("batch: expected at least one row");
    }
    const StateDatasetInfo& info = records_->info();
    for (const Row& row : batch.row) {
      const bool told = row.excerpt >= 0;
      if (row.record < 0 || row.record >= static_cast<int64_t>(records_->all().size()) ||
          row.label >= dit_.sizes().labels ||
          (told && (records_->all()[row.record].excerpts < 0 || row.excerpt >= info.excerpts ||
                    row.excerpt_tokens < 0 || row.excerpt_tokens > info.excerpt_tokens))) {
        return absl::InvalidArgumentError(
            StrCat("batch: expected a state, label and excerpt of the "
                   "data set, found state ",
                   row.record));
      }
    }
    return CheckTokens(batch);
  }

  Tensor ToDevice(const std::vector<int64_t>& values) const {
    return torch::tensor(values, torch::kLong).to(device_);
  }

  Tensor Codes(const Batch& batch) const {
    std::vector<int64_t> records;
    for (const Row& row : batch.row) records.push_back(row.record);
    return codes_.index_select(0, ToDevice(records)).to(torch::kFloat);
  }

  diffusion::DitCondition Condition(const Batch& batch) const {
    std::vector<int64_t> labels, excerpts, lengths;
    bool any = false;
    for (const Row& row : batch.row) {
      labels.push_back(row.label >= 0 ? row.label : dit_.sizes().labels);
      const bool told = row.excerpt >= 0;
      any = any || told;
      excerpts.push_back(told ? records_->all()[row.record].excerpts * records_->info().excerpts +
                                    row.excerpt
                              : 0);
      lengths.push_back(told ? row.excerpt_tokens : 0);
    }
    diffusion::DitCondition condition = {
        .label = ToDevice(labels), .text = {}, .text_length = ToDevice(lengths)};
    if (any) condition.text = excerpts_.index_select(0, ToDevice(excerpts));
    return condition;
  }

  NamedTensors Saved() const {
    return {{"values", dit_.values()},
            {"average", average_},
            {"first_moment", optimiser_.first_moment()},
            {"second_moment", optimiser_.second_moment()}};
  }

  const std::shared_ptr<const StateRecords> records_;
  StateDitOptions options_;
  const diffusion::StateCodec codec_;
  const torch::Device device_;
  const torch::ScalarType products_;
  diffusion::Dit dit_;
  AdamW optimiser_;
  std::unique_ptr<FrozenBackbone> reader_;  // null: the mode `tuned` is not learned
  Tensor average_;                          // of the values
  Tensor codes_;                            // [states][G][K] f16
  Tensor excerpts_;                         // [documents * E][T][activation width] f16
};

}  // namespace

absl::StatusOr<std::unique_ptr<Learner>> MakeStateDitLearner(
    std::shared_ptr<const StateRecords> records, const StateDitOptions& options) {
  DS_ASSIGN_OR_RETURN(const torch::Device device, ChooseDevice(options.device, Ranks()));
  const int threads = UseThreads(options.threads);
  return Guarded([&]() -> absl::StatusOr<std::unique_ptr<Learner>> {
    DS_ASSIGN_OR_RETURN(diffusion::StateCodec codec, ReadOrFitCodec(*records, options));
    if (codec.shape() != records->info().shape) {
      return absl::FailedPreconditionError(StrCat(options.codec,
                                                  ": is of states of another shape than ",
                                                  records->dataset().directory(), " holds"));
    }
    diffusion::DitSizes sizes = options.sizes;
    sizes.state_heads = codec.shape().layers * codec.shape().heads;
    sizes.blocks = codec.blocks();
    sizes.token_size = codec.token_size();
    sizes.labels = static_cast<int>(records->info().labels.size());
    sizes.activation_width = records->info().activation_width();
    std::unique_ptr<diffusion::Dit> initial;
    if (options.initial != nullptr) {
      DS_ASSIGN_OR_RETURN(initial, diffusion::Dit::Load(*options.initial, device));
      const diffusion::DitSizes& found = initial->sizes();
      if (found.tokens() != sizes.tokens() || found.token_size != sizes.token_size ||
          found.labels != sizes.labels || found.activation_width != sizes.activation_width) {
        return absl::InvalidArgumentError(
            StrCat("the state DiT to begin from: expected one for the states, ", sizes.labels,
                   " labels and excerpts of ", records->dataset().directory()));
      }
      sizes = found;
    }
    sizes.tuned = sizes.tuned || options.backbone != nullptr;
    DS_RETURN_IF_ERROR(diffusion::CheckSizes(sizes));
    auto learner = std::make_unique<StateDitLearner>(std::move(records), options, sizes,
                                                     std::move(codec), device);
    DS_RETURN_IF_ERROR(learner->Begin(initial.get(), options.backbone, threads));
    DS_RETURN_IF_ERROR(learner->ReadData());
    return std::unique_ptr<Learner>(std::move(learner));
  });
}

}  // namespace dreamstate::training
