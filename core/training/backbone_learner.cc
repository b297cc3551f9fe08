// A backbone in training: MakeBackboneLearner (core/training/learner_options.h).
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "core/base/hash.h"
#include "core/base/memory.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/training/backbone.h"
#include "core/training/fork_on_torch.h"
#include "core/training/learner_memory.h"
#include "core/training/learner_options.h"
#include "core/training/learner_parts.h"
#include "core/training/loss.h"
#include "core/training/optimiser.h"
#include "core/training/process_group.h"
#include "core/training/rank_share.h"
#include "core/training/state_bank.h"

namespace dreamstate::training {
namespace {

using torch::Tensor;

absl::Status CheckBatch(const Batch& batch, int vocab, int bank_slots, int labels) {
  const auto wrong = [](std::string_view what) {
    return absl::InvalidArgumentError(StrCat("batch: ", what));
  };
  const size_t tokens = size_t(std::max(batch.rows, 0)) * std::max(batch.tokens, 0);
  if (tokens == 0) return wrong("expected at least one row and one token");
  if (batch.inputs.size() != tokens || batch.targets.size() != tokens ||
      batch.row.size() != static_cast<size_t>(batch.rows)) {
    return wrong("its arrays do not have rows x tokens elements");
  }
  for (size_t i = 0; i < tokens; ++i) {
    if (batch.inputs[i] < 0 || batch.inputs[i] >= vocab || batch.targets[i] < -1 ||
        batch.targets[i] >= vocab) {
      return wrong(StrCat("row ", i / batch.tokens, ": expected tokens in [0, ", vocab,
                          "), found input ", batch.inputs[i], " and target ", batch.targets[i]));
    }
  }
  if (std::all_of(batch.targets.begin(), batch.targets.end(),
                  [](int32_t target) { return target < 0; })) {
    return wrong("expected targets to score, found none");
  }
  for (const Row& row : batch.row) {
    for (const int32_t slot : row.start_slots) {
      if (slot < 0 || slot >= bank_slots) {
        return wrong(StrCat("start slot ", slot, ": expected one of ", bank_slots));
      }
    }
    if (row.keep_slot >= bank_slots) {
      return wrong(StrCat("keep slot ", row.keep_slot, ": expected one of ", bank_slots));
    }
    if (labels > 0 && (row.label < 0 || row.label >= labels)) {
      return wrong(StrCat("label ", row.label, ": expected one of ", labels));
    }
  }
  return absl::OkStatus();
}

class BackboneLearner : public Learner {
 public:
  BackboneLearner(const LearnerOptions& options, const BackboneSizes& sizes, torch::Device device,
                  int threads, std::unique_ptr<ProcessGroup> group)
      : options_(options),
        device_(device),
        group_(std::move(group)),
        products_(ProductsOn(device, options.bf16)),
        pool_(threads, ForkOnTorch),
        backbone_(sizes, device, torch::kFloat, pool_),
        bank_(options.bank_slots, sizes, device) {}

  absl::Status Initialise() {
    if (options_.initial != nullptr) {
      DS_RETURN_IF_ERROR(backbone_.Load(*options_.initial));
      options_.initial = nullptr;  // need not outlive the call
    } else {
      backbone_.Initialise(options_.seed);
    }
    DS_RETURN_IF_ERROR(Agree("the config and the corpus", options_.shared));
    if (group_ != nullptr) group_->Broadcast(backbone_.values());
    if (options_.mode == TrainingMode::kStateTuning) {
      backbone_.RequireGradients(false);
      const BackboneSizes& sizes = backbone_.sizes();
      const int64_t n = sizes.head_size;
      const auto like = torch::TensorOptions().device(device_).dtype(torch::kFloat);
      trained_ = torch::zeros({options_.labels * sizes.layers * backbone_.heads() * n * n}, like);
      gradients_ = torch::zeros_like(trained_);
      time_state_ =
          trained_.view({options_.labels, sizes.layers, backbone_.heads(), n, n}).detach();
      time_state_.set_requires_grad(true);
      time_state_.mutable_grad() = gradients_.view(time_state_.sizes());
      // One group without weight decay.
      optimiser_ = std::make_unique<AdamW>(options_.optimiser, trained_,
                                           std::vector<int64_t>{0, 0, trained_.numel()});
      return absl::OkStatus();
    }
    trained_ = backbone_.values();
    gradients_ = backbone_.gradients();
    std::vector<int64_t> groups(kParameterGroups, 0);
    for (const Parameter& parameter : backbone_.parameters()) {
      groups[static_cast<int>(GroupOf(parameter.name, parameter.shape))] += parameter.elements;
    }
    optimiser_ = std::make_unique<AdamW>(options_.optimiser, trained_, std::move(groups));
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Step(const Batch& batch, double lr) override {
    DS_RETURN_IF_ERROR(CheckBatch(batch, backbone_.sizes().vocab, bank_.slots(), options_.labels));
    return Guarded([&]() -> absl::StatusOr<StepResult> {
      const double scored = static_cast<double>(std::count_if(
          batch.targets.begin(), batch.targets.end(), [](int32_t target) { return target >= 0; }));
      const RankShare share = ShareOf(batch, options_.ranks);
      gradients_.zero_();
      Tensor loss = torch::zeros({}, torch::TensorOptions().device(device_));
      std::vector<std::pair<int, BackboneState>> kept;  // first row, final states
      ForEachPiece(share.batch, [&](int first, int rows) {
        Backbone::Result result = Run(share.batch, first, rows);
        const ScoredPositions positions = FindScored(share.batch, first, rows, device_);
        const Tensor part = CrossEntropy(backbone_.Head(Hidden(result, positions), products_),
                                         positions.targets, std::max(scored, 1.0));
        part.backward();
        loss.add_(part.detach());
        kept.emplace_back(first, BackboneState{result.final_state.shift.detach(),
                                               result.final_state.wkv.detach()});
      });
      if (group_ != nullptr) {
        group_->Sum(gradients_);
        group_->Sum(loss);
      }
      // One wait for the device a step.
      const Tensor sums = torch::stack({loss, gradients_.norm()}).cpu();
      const float* values = sums.const_data_ptr<float>();
      const StepResult out = {.loss = values[0],
                              .grad_norm = values[1],
                              .tokens = static_cast<int64_t>(batch.inputs.size())};
      if (!std::isfinite(out.loss) || !std::isfinite(out.grad_norm)) return out;
      const double clip = options_.optimiser.clip;
      // The small number is the official one's: torch's clip_grad_norm_.
      const double scale = clip > 0 ? std::min(1.0, clip / (out.grad_norm + 1e-6)) : 1.0;
      optimiser_->Step(trained_, gradients_, lr, scale);
      for (const auto& [first, state] : kept) {
        bank_.Keep(std::span(share.batch.row).subspan(first, state.wkv.size(0)), state);
      }
      if (group_ != nullptr) bank_.Exchange(batch.row, options_.ranks, *group_);
      return out;
    });
  }

  absl::StatusOr<EvaluationResult> Evaluate(const Batch& batch) override {
    DS_RETURN_IF_ERROR(CheckBatch(batch, backbone_.sizes().vocab, bank_.slots(), options_.labels));
    return Guarded([&]() -> absl::StatusOr<EvaluationResult> {
      const torch::NoGradGuard no_gradients;
      const RankShare share = ShareOf(batch, options_.ranks);
      // By row of the global batch: nll, scored, correct.
      const Tensor sums = torch::zeros({3, batch.rows}, torch::kDouble);
      ForEachPiece(share.batch, [&](int first, int rows) {
        const Backbone::Result result = Run(share.batch, first, rows);
        const ScoredPositions scored = FindScored(share.batch, first, rows, device_);
        const Tensor piece =
            ScoreRows(backbone_.Head(Hidden(result, scored), products_), scored, rows);
        for (int row = 0; row < rows; ++row) {
          sums.select(1, share.rows[first + row]).copy_(piece.select(1, row));
        }
      });
      if (group_ != nullptr) group_->Sum(sums);
      return ResultOf(sums);
    });
  }

  absl::StatusOr<bool> Any(bool here) override {
    if (group_ == nullptr) return here;
    return Guarded([&]() -> absl::StatusOr<bool> {
      const Tensor votes = torch::full({1}, here ? 1.0 : 0.0);
      group_->Sum(votes);
      return votes.item<float>() > 0;
    });
  }

  absl::Status Agree(std::string_view what, std::string_view text) override {
    if (group_ == nullptr) return absl::OkStatus();
    return Guarded([&]() -> absl::Status {
      const std::string digest = Sha256Hex(text);
      const Tensor here = torch::from_blob(const_cast<char*>(digest.data()),
                                           {static_cast<int64_t>(digest.size())}, torch::kByte)
                              .to(torch::kInt);
      const Tensor first = here.clone();
      group_->Broadcast(first);
      const Tensor differs = torch::zeros({options_.ranks.size});
      differs[options_.ranks.rank] = first.equal(here) ? 0.0 : 1.0;
      group_->Sum(differs);
      std::string others;
      for (int rank = 0; rank < options_.ranks.size; ++rank) {
        if (differs[rank].item<float>() > 0) StrAppend(&others, others.empty() ? "" : ", ", rank);
      }
      if (others.empty()) return absl::OkStatus();
      return absl::FailedPreconditionError(StrCat("ranks: expected ", what,
                                                  " to be the same on all, found that of rank 0 "
                                                  "not on rank ",
                                                  others));
    });
  }

  absl::Status Save(const std::string& directory) override {
    return Guarded([&] { return SaveTensors(directory, Saved(), optimiser_->steps()); });
  }

  absl::Status Restore(const std::string& directory) override {
    return Guarded([&]() -> absl::Status {
      DS_ASSIGN_OR_RETURN(const int64_t steps, RestoreTensors(directory, Saved()));
      optimiser_->set_steps(steps);
      return absl::OkStatus();
    });
  }

  absl::StatusOr<tensors::TensorSet> Export(bool fp32) override {
    return Guarded([&]() -> absl::StatusOr<tensors::TensorSet> {
      if (options_.mode == TrainingMode::kFull) return backbone_.Export(fp32);
      const Tensor copy = time_state_.detach().to(torch::kCPU).transpose(0, 1).contiguous();
      std::vector<tensors::Tensor> list;
      for (int layer = 0; layer < backbone_.sizes().layers; ++layer) {
        const Tensor part = copy[layer];
        list.push_back({.name = StrCat("blocks.", layer, ".att.time_state"),
                        .dtype = tensors::DType::kF32,
                        .shape = part.sizes().vec(),
                        .data = {static_cast<const std::byte*>(part.const_data_ptr()),
                                 static_cast<size_t>(part.nbytes())}});
      }
      return tensors::TensorSet::Make("the states in training", std::move(list), {},
                                      std::make_shared<Tensor>(copy));
    });
  }

  int64_t parameters() const override { return trained_.numel(); }
  std::string device() const override { return DeviceName(device_, products_); }

 private:
  template <typename Body>
  void ForEachPiece(const Batch& batch, const Body& body) const {
    const int at_once = options_.micro_batch_rows > 0 ? options_.micro_batch_rows : batch.rows;
    for (int first = 0; first < batch.rows; first += at_once) {
      body(first, std::min(at_once, batch.rows - first));
    }
  }

  Tensor Tokens(const std::vector<int32_t>& values, const Batch& batch, int first, int rows) const {
    const Tensor view =
        torch::from_blob(const_cast<int32_t*>(values.data()) + int64_t{first} * batch.tokens,
                         {rows, batch.tokens}, torch::kInt);
    return view.to(torch::TensorOptions().device(device_).dtype(torch::kLong));
  }
  // Of the positions that are scored [M][D].
  static Tensor Hidden(const Backbone::Result& result, const ScoredPositions& scored) {
    const Tensor flat = result.hidden.flatten(0, 1);
    return scored.at.size(0) < flat.size(0) ? flat.index_select(0, scored.at) : flat;
  }

  Backbone::Result Run(const Batch& batch, int first, int rows) const {
    const std::span<const Row> row = std::span(batch.row).subspan(first, rows);
    BackboneState initial;
    if (options_.mode == TrainingMode::kFull) {
      initial = bank_.Start(row);
    } else {
      std::vector<int64_t> labels;
      for (const Row& one : row) labels.push_back(one.label);
      const Tensor index = torch::tensor(labels, torch::kLong).to(device_);
      initial.wkv = time_state_.index_select(0, index);
      initial.shift = torch::zeros({rows, backbone_.sizes().layers, 2, backbone_.sizes().width},
                                   trained_.options());
    }
    return backbone_.Forward(Tokens(batch.inputs, batch, first, rows), initial, products_);
  }

  // What a checkpoint holds. Backbone values are saved also where only states are trained: a
  // resumed run must not depend on the file that it began from.
  std::vector<std::pair<std::string, Tensor>> Saved() const {
    std::vector<std::pair<std::string, Tensor>> saved = {
        {"backbone", backbone_.values()},
        {"first_moment", optimiser_->first_moment()},
        {"second_moment", optimiser_->second_moment()}};
    if (options_.mode == TrainingMode::kStateTuning) saved.emplace_back("time_state", trained_);
    if (bank_.slots() > 0) {
      saved.emplace_back("bank.shift", bank_.shift());
      saved.emplace_back("bank.wkv", bank_.wkv());
    }
    return saved;
  }

  LearnerOptions options_;
  torch::Device device_;
  std::unique_ptr<ProcessGroup> group_;  // null for a rank alone
  torch::ScalarType products_;
  kernels::ThreadPool pool_;
  Backbone backbone_;
  StateBank bank_;
  Tensor trained_, gradients_, time_state_;
  std::unique_ptr<AdamW> optimiser_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Learner>> MakeBackboneLearner(const LearnerOptions& options) {
  BackboneSizes sizes;
  if (options.initial != nullptr) {
    DS_ASSIGN_OR_RETURN(sizes, SizesOf(*options.initial));
  } else {
    DS_ASSIGN_OR_RETURN(sizes, CompleteSizes(options.sizes));
  }
  if (options.mode == TrainingMode::kStateTuning && options.labels < 1) {
    return absl::InvalidArgumentError("state tuning: expected at least one label");
  }
  DS_ASSIGN_OR_RETURN(const torch::Device device, ChooseDevice(options.device, options.ranks));
  if (device.is_cpu()) {
    DS_RETURN_IF_ERROR(CheckMemory(options, sizes,
                                   ProductsOn(device, options.bf16) == torch::kBFloat16,
                                   AvailableMemoryBytes(ReadMemoryFiles())));
  }
  const int threads = UseThreads(options.threads);
  return Guarded([&]() -> absl::StatusOr<std::unique_ptr<Learner>> {
    std::unique_ptr<ProcessGroup> group;
    if (!options.ranks.alone()) group = JoinRanks(options.ranks, device);
    auto learner =
        std::make_unique<BackboneLearner>(options, sizes, device, threads, std::move(group));
    DS_RETURN_IF_ERROR(learner->Initialise());
    return std::unique_ptr<Learner>(std::move(learner));
  });
}

}  // namespace dreamstate::training
