// Rows of one label that begin from zero and from kept states, and switch documents.
#include <algorithm>
#include <utility>

#include "core/base/draws.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/training/sources.h"
#include "nlohmann/json.hpp"

namespace dreamstate::training {
namespace {

// What is known of a bank slot.
struct Slot {
  int32_t document = -1;  // index into the training split's documents; -1 = nothing kept yet
  int64_t next = 0;       // the position in it that the state has read up to
};

// Where a row is.
struct Reading {
  int32_t document = -1;
  int64_t position = 0;
};

class StateReadySource : public BatchSource {
 public:
  StateReadySource(std::shared_ptr<const Corpus> corpus, const BatchShape& shape,
                   const StateReadyOptions& options, uint64_t seed)
      : corpus_(std::move(corpus)), shape_(shape), options_(options), seed_(seed) {
    const auto& documents = corpus_->documents(Split::kTrain);
    by_label_.resize(corpus_->labels().size());
    for (size_t i = 0; i < documents.size(); ++i) {
      if (documents[i].tokens >= options_.excerpt_min_tokens) {
        by_label_[documents[i].label].push_back(static_cast<int32_t>(i));
      }
    }
    for (size_t label = 0; label < by_label_.size(); ++label) {
      // A document of its own for the row, one to switch to, and one that the state comes from.
      if (by_label_[label].size() >= 3) labels_.push_back(static_cast<int32_t>(label));
    }
    slots_.resize(labels_.size() * options_.slots_per_label);
    next_slot_.resize(labels_.size(), 0);
  }

  bool empty() const { return labels_.empty(); }
  int bank_slots() const override { return static_cast<int>(slots_.size()); }

  absl::StatusOr<Batch> Next() override {
    Batch batch = {.rows = shape_.rows, .tokens = shape_.tokens};
    std::vector<std::pair<int32_t, Slot>> kept;
    std::vector<int> kept_of_label(labels_.size(), 0);
    for (int row = 0; row < shape_.rows; ++row) {
      Draws draws(seed_, static_cast<uint32_t>(step_), static_cast<uint32_t>(row));
      const int index = static_cast<int>(draws.Below(static_cast<uint32_t>(labels_.size())));
      Row out = {.start_slots = {}, .keep_slot = -1, .label = labels_[index]};
      Reading reading = Begin(draws, index, &out.start_slots);
      // A ring: the slot that was kept longest goes. Slots of one batch are distinct.
      const bool keep =
          draws.Uniform() < options_.keep_share && kept_of_label[index] < options_.slots_per_label;
      Fill(draws, index, keep, &reading, &batch);
      if (keep) {
        out.keep_slot = index * options_.slots_per_label +
                        (next_slot_[index] + kept_of_label[index]) % options_.slots_per_label;
        ++kept_of_label[index];
        kept.emplace_back(out.keep_slot, Slot{reading.document, reading.position});
      }
      batch.row.push_back(std::move(out));
    }
    for (const auto& [slot, what] : kept) slots_[slot] = what;
    for (size_t i = 0; i < labels_.size(); ++i) {
      next_slot_[i] = (next_slot_[i] + kept_of_label[i]) % options_.slots_per_label;
    }
    ++step_;
    DS_RETURN_IF_ERROR(corpus_->CheckNothingLost());
    return batch;
  }

  std::string Save() const override {
    nlohmann::json json = {{"step", step_}, {"next_slot", next_slot_}};
    for (const Slot& slot : slots_) json["slots"].push_back({slot.document, slot.next});
    return json.dump();
  }

  absl::Status Restore(const std::string& position) override {
    const auto wrong = [](std::string_view what) {
      return absl::InvalidArgumentError(StrCat("data position: expected ", what));
    };
    try {
      const nlohmann::json json = nlohmann::json::parse(position);
      const auto step = json.at("step").get<int64_t>();
      const auto next = json.at("next_slot").get<std::vector<int>>();
      std::vector<Slot> slots;
      for (const auto& slot : json.at("slots")) {
        slots.push_back({slot.at(0).get<int32_t>(), slot.at(1).get<int64_t>()});
      }
      if (step < 0 || next.size() != next_slot_.size() || slots.size() != slots_.size()) {
        return wrong(StrCat("that of ", slots_.size(), " slots, found one of ", slots.size()));
      }
      const auto& documents = corpus_->documents(Split::kTrain);
      for (size_t i = 0; i < slots.size(); ++i) {
        const Slot& slot = slots[i];
        if (slot.document == -1) continue;
        const int32_t label = labels_[i / options_.slots_per_label];
        if (slot.document < 0 || slot.document >= static_cast<int64_t>(documents.size()) ||
            documents[slot.document].label != label || slot.next < 0 ||
            slot.next > documents[slot.document].tokens) {
          return wrong(StrCat("slot ", i, " to name a place in a document of its label"));
        }
      }
      for (const int i : next) {
        if (i < 0 || i >= options_.slots_per_label) return wrong("slots within their rings");
      }
      step_ = step;
      next_slot_ = next;
      slots_ = std::move(slots);
    } catch (const nlohmann::json::exception&) {
      return wrong("what a state-ready source saved");
    }
    return absl::OkStatus();
  }

 private:
  int64_t Tokens(int32_t document) const {
    return corpus_->documents(Split::kTrain)[document].tokens;
  }

  // Another document than `but`, and a place in it with an excerpt ahead.
  Reading Choose(Draws& draws, int index, int32_t but) const {
    const std::vector<int32_t>& documents = by_label_[labels_[index]];
    int32_t document = but;
    while (document == but) {
      document = documents[draws.Below(static_cast<uint32_t>(documents.size()))];
    }
    const int64_t places = Tokens(document) - options_.excerpt_min_tokens + 1;
    const int64_t position = draws.Uniform() < options_.document_start_share
                                 ? 0
                                 : draws.Below(static_cast<uint32_t>(places));
    return {document, position};
  }

  // What the row begins from, and the place in a document with which it begins.
  Reading Begin(Draws& draws, int index, std::vector<int32_t>* start_slots) const {
    const double kind = draws.Uniform();
    std::vector<int32_t> kept;
    for (int i = 0; i < options_.slots_per_label; ++i) {
      const int32_t slot = index * options_.slots_per_label + i;
      if (slots_[slot].document >= 0) kept.push_back(slot);
    }
    const Reading reading = Choose(draws, index, -1);
    if (kept.empty()) return reading;
    const int32_t one = kept[draws.Below(static_cast<uint32_t>(kept.size()))];
    double below = options_.own_share;
    if (kind < below) {
      const Slot& slot = slots_[one];
      if (Tokens(slot.document) - slot.next < options_.excerpt_min_tokens) return reading;
      *start_slots = {one};
      return {slot.document, slot.next};
    }
    std::erase_if(kept, [&](int32_t slot) { return slots_[slot].document == reading.document; });
    if (kept.empty()) return reading;
    below += options_.foreign_share;
    if (kind < below) {
      *start_slots = {kept[draws.Below(static_cast<uint32_t>(kept.size()))]};
      return reading;
    }
    below += options_.class_mean_share;
    // The mean of one state is that state.
    if (kind < below && kept.size() >= 2) {
      draws.Shuffle(kept);
      const size_t most = std::min(kept.size(), static_cast<size_t>(options_.mean_states));
      kept.resize(2 + draws.Below(static_cast<uint32_t>(most - 1)));
      *start_slots = std::move(kept);
    }
    return reading;
  }

  // Appends one row of inputs and targets. When `keep`, the last input is the separator, and
  // `reading` is left where the document before it ends.
  void Fill(Draws& draws, int index, bool keep, Reading* reading, Batch* batch) const {
    const int length = shape_.tokens + 1;
    std::vector<int32_t> row;
    row.reserve(length);
    if (draws.Uniform() < options_.separator_first_share) row.push_back(0);
    const bool packed = draws.Uniform() < options_.packed_share;
    // Up to where text goes: the separator of a kept row and the target behind it come after.
    const int end = keep ? length - 2 : length;
    while (static_cast<int>(row.size()) < end) {
      int64_t wanted = end - static_cast<int64_t>(row.size());
      if (packed) {
        const int span = options_.excerpt_max_tokens - options_.excerpt_min_tokens + 1;
        const int64_t excerpt =
            options_.excerpt_min_tokens + draws.Below(static_cast<uint32_t>(span));
        // No excerpt is left that would be too short to be one.
        if (wanted - excerpt > options_.excerpt_min_tokens) wanted = excerpt;
      }
      const auto tokens =
          corpus_->tokens(Split::kTrain, corpus_->documents(Split::kTrain)[reading->document]);
      const int64_t left = static_cast<int64_t>(tokens.size()) - reading->position;
      int64_t count = std::min(wanted, left);
      // Nor when the document ends early: it then ends a little earlier.
      const int64_t rest = wanted - left - 1;
      if (rest > 0 && rest < options_.excerpt_min_tokens) {
        count = std::clamp<int64_t>(wanted - 1 - options_.excerpt_min_tokens, 1, left);
      }
      for (int64_t i = 0; i < count; ++i) row.push_back(tokens[reading->position + i]);
      reading->position += count;
      if (static_cast<int>(row.size()) == end) break;
      row.push_back(0);
      if (static_cast<int>(row.size()) < end) *reading = Choose(draws, index, reading->document);
    }
    if (keep) {
      row.push_back(0);
      row.push_back(AfterSeparator(draws, index, *reading));
    }
    for (int t = 0; t < shape_.tokens; ++t) {
      batch->inputs.push_back(row[t]);
      batch->targets.push_back(row[t + 1]);
    }
  }

  // The token that is asked for behind a kept row's separator: the document goes on, or another
  // begins.
  int32_t AfterSeparator(Draws& draws, int index, const Reading& reading) const {
    Reading next = reading;
    if (draws.Uniform() < 0.5 || next.position >= Tokens(next.document)) {
      next = Choose(draws, index, reading.document);
    }
    return corpus_->tokens(Split::kTrain,
                           corpus_->documents(Split::kTrain)[next.document])[next.position];
  }

  std::shared_ptr<const Corpus> corpus_;
  BatchShape shape_;
  StateReadyOptions options_;
  uint64_t seed_;
  std::vector<std::vector<int32_t>> by_label_;  // documents of each label
  std::vector<int32_t> labels_;                 // those that are trained on
  std::vector<Slot> slots_;                     // [labels_][slots_per_label]
  std::vector<int> next_slot_;                  // [labels_]
  int64_t step_ = 0;
};

absl::Status CheckOptions(const StateReadyOptions& options, const BatchShape& shape) {
  const auto share = [](const char* name, double value) {
    if (value >= 0 && value <= 1) return absl::OkStatus();
    return absl::InvalidArgumentError(
        StrCat("data.", name, ": expected a share from 0 to 1, found ", value));
  };
  DS_RETURN_IF_ERROR(share("packed_share", options.packed_share));
  DS_RETURN_IF_ERROR(share("document_start_share", options.document_start_share));
  DS_RETURN_IF_ERROR(share("own_share", options.own_share));
  DS_RETURN_IF_ERROR(share("foreign_share", options.foreign_share));
  DS_RETURN_IF_ERROR(share("class_mean_share", options.class_mean_share));
  DS_RETURN_IF_ERROR(share("separator_first_share", options.separator_first_share));
  DS_RETURN_IF_ERROR(share("keep_share", options.keep_share));
  DS_RETURN_IF_ERROR(share("own_share + foreign_share + class_mean_share",
                           options.own_share + options.foreign_share + options.class_mean_share));
  if (options.excerpt_min_tokens < 1 || options.excerpt_max_tokens < options.excerpt_min_tokens) {
    return absl::InvalidArgumentError("data.excerpt_min_tokens: expected 1 to excerpt_max_tokens");
  }
  if (shape.rows < 1 || shape.tokens < options.excerpt_min_tokens + 3) {
    return absl::InvalidArgumentError(
        StrCat("batch.tokens: expected room for an excerpt and separators, ",
               options.excerpt_min_tokens + 3, ", found ", shape.tokens));
  }
  if (options.slots_per_label < 1 || options.slots_per_label > 4096 || options.mean_states < 2) {
    return absl::InvalidArgumentError(
        "data.slots_per_label: expected 1 to 4096, and mean_states at least 2");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<BatchSource>> MakeStateReadySource(
    std::shared_ptr<const Corpus> corpus, const BatchShape& shape, const StateReadyOptions& options,
    uint64_t seed) {
  DS_RETURN_IF_ERROR(CheckOptions(options, shape));
  auto source = std::make_unique<StateReadySource>(std::move(corpus), shape, options, seed);
  if (source->empty()) {
    return absl::InvalidArgumentError(
        StrCat("data: expected a label with at least three training documents of ",
               options.excerpt_min_tokens, " tokens, found none"));
  }
  return std::unique_ptr<BatchSource>(std::move(source));
}

absl::StatusOr<std::vector<Batch>> HeldOutWindows(const Corpus& corpus, Split split,
                                                  const BatchShape& shape, int windows) {
  std::vector<int> of_label(corpus.labels().size(), 0);
  std::vector<Batch> batches;
  const std::vector<Document>& documents = corpus.documents(split);
  for (size_t index = 0; index < documents.size(); ++index) {
    const Document& document = documents[index];
    if (!corpus.trained(document.label) || of_label[document.label] >= windows ||
        document.tokens < shape.tokens) {
      continue;
    }
    ++of_label[document.label];
    if (batches.empty() || batches.back().rows == shape.rows) {
      batches.push_back({.rows = 0, .tokens = shape.tokens});
    }
    Batch& batch = batches.back();
    // From anywhere in the document: beginnings (licences, headers) are easier than what follows.
    Draws draws(/*seed=*/0, static_cast<uint32_t>(index), 0);
    const auto tokens =
        corpus.tokens(split, document)
            .subspan(draws.Below(static_cast<uint32_t>(document.tokens - shape.tokens + 1)),
                     static_cast<size_t>(shape.tokens));
    batch.inputs.push_back(0);
    batch.inputs.insert(batch.inputs.end(), tokens.begin(), tokens.end() - 1);
    batch.targets.insert(batch.targets.end(), tokens.begin(), tokens.end());
    batch.row.push_back({.start_slots = {}, .keep_slot = -1, .label = document.label});
    ++batch.rows;
  }
  DS_RETURN_IF_ERROR(corpus.CheckNothingLost());
  if (batches.empty()) {
    return absl::InvalidArgumentError(
        StrCat("corpus: expected a document of a trained label with at least ", shape.tokens,
               " tokens in the split ", SplitName(split), ", found none"));
  }
  return batches;
}

}  // namespace dreamstate::training
