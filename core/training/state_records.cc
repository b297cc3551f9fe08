#include "core/training/state_records.h"

#include <map>
#include <utility>

#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/training/source_position.h"

namespace dreamstate::training {
namespace {

constexpr uint32_t kBatchStream = 0x44495442;  // "DITB"; the substream is the step

class StateSource : public BatchSource {
 public:
  StateSource(std::shared_ptr<const StateRecords> records, int rows,
              const StateConditionShares& shares, uint64_t seed)
      : records_(std::move(records)), rows_(rows), shares_(shares), seed_(seed) {}

  int bank_slots() const override { return 0; }

  absl::StatusOr<Batch> Next() override {
    Draws draws(seed_, kBatchStream, static_cast<uint32_t>(step_++));
    const auto one_of = [&draws](const auto& list) {
      return list[draws.Below(static_cast<uint32_t>(list.size()))];
    };
    Batch batch = {.rows = rows_};
    for (int i = 0; i < rows_; ++i) {
      Row row;
      const int32_t label = one_of(records_->labels());
      row.record = one_of(records_->of_label(label));
      const double kind = draws.Uniform();
      const bool text = kind < shares_.text + shares_.both;
      const bool told = kind >= shares_.text && kind < shares_.text + shares_.both + shares_.label;
      if (told) row.label = label;
      if (text && records_->all()[row.record].excerpts >= 0) {
        const StateDatasetInfo& info = records_->info();
        row.excerpt = static_cast<int32_t>(draws.Below(static_cast<uint32_t>(info.excerpts)));
        const int least = std::min(shares_.excerpt_min_tokens, info.excerpt_tokens);
        row.excerpt_tokens = least + static_cast<int32_t>(draws.Below(
                                         static_cast<uint32_t>(info.excerpt_tokens - least + 1)));
      }
      batch.row.push_back(std::move(row));
    }
    return batch;
  }

  std::string Save() const override { return SaveStep(step_); }
  absl::Status Restore(const std::string& position) override {
    return RestoreStep(position, &step_);
  }

 private:
  const std::shared_ptr<const StateRecords> records_;
  const int rows_;
  const StateConditionShares shares_;
  const uint64_t seed_;
  int64_t step_ = 0;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const StateRecords>> StateRecords::Read(
    const StateDataset& dataset) {
  std::shared_ptr<StateRecords> records(new StateRecords(dataset));
  DS_RETURN_IF_ERROR(records->Add(Split::kTrain));
  records->training_ = static_cast<int64_t>(records->all_.size());
  DS_RETURN_IF_ERROR(records->Add(Split::kValid));
  records->by_label_.resize(dataset.info().labels.size());
  for (int64_t i = 0; i < records->training_; ++i) {
    records->by_label_[records->all_[i].origin.label].push_back(i);
  }
  for (size_t label = 0; label < records->by_label_.size(); ++label) {
    if (!records->by_label_[label].empty()) {
      records->labels_.push_back(static_cast<int32_t>(label));
    }
  }
  return records;
}

absl::Status StateRecords::Add(Split split) {
  DS_RETURN_IF_ERROR(dataset_.CheckComplete(split));
  const size_t before = all_.size();
  for (int shard = 0; shard < info().shards[static_cast<int>(split)]; ++shard) {
    DS_ASSIGN_OR_RETURN(const StateShard content, dataset_.ReadShard(split, shard));
    std::map<int32_t, int64_t> excerpts;
    for (const int32_t document : content.excerpt_documents) {
      excerpts.emplace(document, excerpt_documents_++);
    }
    for (size_t row = 0; row < content.origins.size(); ++row) {
      const StateOrigin& origin = content.origins[row];
      if (!info().trained[origin.label]) continue;
      const bool told = info().excerpts > 0 && info().excerpt_tokens > 0;
      const auto found = told ? excerpts.find(origin.document) : excerpts.end();
      all_.push_back({.origin = origin,
                      .split = split,
                      .shard = shard,
                      .row = static_cast<int32_t>(row),
                      .excerpts = found == excerpts.end() ? -1 : found->second});
    }
  }
  if (all_.size() > before) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat(dataset_.directory(),
                                              ": expected states of trained "
                                              "labels in the split ",
                                              SplitName(split), ", found none"));
}

absl::StatusOr<std::unique_ptr<BatchSource>> MakeStateSource(
    std::shared_ptr<const StateRecords> records, int rows, const StateConditionShares& shares,
    uint64_t seed) {
  const double sum = shares.label + shares.text + shares.both;
  if (shares.label < 0 || shares.text < 0 || shares.both < 0 || sum > 1) {
    return absl::InvalidArgumentError(
        StrCat("data: expected label_share, text_share and both_share to be shares of 1, found ",
               shares.label, ", ", shares.text, " and ", shares.both));
  }
  return std::make_unique<StateSource>(std::move(records), rows, shares, seed);
}

std::vector<Batch> HeldOutStates(const StateRecords& records, int rows, int per_label) {
  std::vector<Batch> batches;
  std::map<int32_t, int> taken;
  for (int64_t i = records.training(); i < static_cast<int64_t>(records.all().size()); ++i) {
    const int32_t label = records.all()[i].origin.label;
    if (taken[label]++ >= per_label) continue;
    if (batches.empty() || batches.back().rows == rows) batches.push_back({});
    Row row;
    row.record = i;
    row.label = label;
    batches.back().row.push_back(std::move(row));
    ++batches.back().rows;
  }
  return batches;
}

}  // namespace dreamstate::training
