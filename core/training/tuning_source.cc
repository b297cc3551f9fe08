#include "core/training/tuning_source.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/training/source_position.h"

namespace dreamstate::training {
namespace {

constexpr uint32_t kWindowStream = 0x54554e45;  // "TUNE"; the substream is the step

// Appends the window that belongs to the batch's last row.
void AppendWindow(const StateRecords& records, const Corpus& corpus, Draws& draws, Batch* batch) {
  const Row& row = batch->row.back();
  const StateRecord& record = records.all()[row.record];
  const Document& document = corpus.documents(record.split)[record.origin.document];
  const std::span<const uint16_t> text = corpus.tokens(record.split, document);
  int64_t begin = 0;
  if (row.excerpt >= 0) {
    begin = ExcerptStarts(records.info(), record.split, record.origin.document,
                          document.tokens)[row.excerpt] +
            row.excerpt_tokens;
  } else if (document.tokens > batch->tokens) {
    begin = static_cast<int64_t>(
        draws.Below(static_cast<uint32_t>(document.tokens - batch->tokens + 1)));
  }
  int32_t last = records.info().separator;
  for (int i = 0; i < batch->tokens; ++i) {
    const bool there = begin + i < document.tokens;
    batch->inputs.push_back(last);
    batch->targets.push_back(there ? int32_t{text[begin + i]} : -1);
    if (there) last = text[begin + i];
  }
}

class TuningSource : public BatchSource {
 public:
  TuningSource(std::shared_ptr<const StateRecords> records, std::shared_ptr<const Corpus> corpus,
               const TuningOptions& options, std::unique_ptr<BatchSource> states)
      : records_(std::move(records)),
        corpus_(std::move(corpus)),
        options_(options),
        states_(std::move(states)) {}

  int bank_slots() const override { return 0; }

  absl::StatusOr<Batch> Next() override {
    DS_ASSIGN_OR_RETURN(Batch states, states_->Next());
    Draws draws(options_.seed, kWindowStream, static_cast<uint32_t>(step_++));
    Batch batch = {.rows = states.rows, .tokens = options_.tokens};
    for (Row& row : states.row) {
      batch.row.push_back(std::move(row));
      AppendWindow(*records_, *corpus_, draws, &batch);
    }
    return batch;
  }

  std::string Save() const override { return SaveStep(step_); }
  absl::Status Restore(const std::string& position) override {
    DS_RETURN_IF_ERROR(states_->Restore(position));
    return RestoreStep(position, &step_);
  }

 private:
  const std::shared_ptr<const StateRecords> records_;
  const std::shared_ptr<const Corpus> corpus_;
  const TuningOptions options_;
  const std::unique_ptr<BatchSource> states_;  // counts its steps alike
  int64_t step_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BatchSource>> MakeTuningSource(
    std::shared_ptr<const StateRecords> records, std::shared_ptr<const Corpus> corpus,
    const TuningOptions& options) {
  if (records->info().corpus != corpus->digest()) {
    return absl::FailedPreconditionError(
        StrCat(records->dataset().directory(), ": was made of another corpus"));
  }
  for (const StateRecord& record : records->all()) {
    const std::vector<Document>& documents = corpus->documents(record.split);
    const auto index = static_cast<size_t>(record.origin.document);
    if (index >= documents.size() ||
        (record.excerpts >= 0 && documents[index].tokens < records->info().excerpt_tokens)) {
      return absl::InvalidArgumentError(
          StrCat(records->dataset().ShardPath(record.split, record.shard),
                 ": document: expected one of the corpus, as long as its excerpts, found ",
                 record.origin.document));
    }
  }
  DS_ASSIGN_OR_RETURN(std::unique_ptr<BatchSource> states,
                      MakeStateSource(records, options.rows, options.shares, options.seed));
  return std::make_unique<TuningSource>(std::move(records), std::move(corpus), options,
                                        std::move(states));
}

std::vector<Batch> HeldOutWindows(const StateRecords& records, const Corpus& corpus,
                                  const TuningOptions& options, int per_label) {
  Draws draws(0, kWindowStream, 0);
  std::vector<Batch> batches;
  std::map<int32_t, int> taken;
  std::set<int32_t> documents;
  for (int64_t i = records.training(); i < static_cast<int64_t>(records.all().size()); ++i) {
    const StateRecord& record = records.all()[i];
    if (taken[record.origin.label] >= per_label ||
        !documents.insert(record.origin.document).second) {
      continue;
    }
    const bool told = taken[record.origin.label]++ % 2 == 1 && record.excerpts >= 0;
    if (batches.empty() || batches.back().rows == options.rows) {
      batches.push_back({.tokens = options.tokens});
    }
    Row row;
    row.record = i;
    if (told) {
      row.excerpt = 0;
      row.excerpt_tokens = records.info().excerpt_tokens;
    } else {
      row.label = record.origin.label;
    }
    Batch& batch = batches.back();
    batch.row.push_back(std::move(row));
    ++batch.rows;
    AppendWindow(records, corpus, draws, &batch);
  }
  return batches;
}

}  // namespace dreamstate::training
