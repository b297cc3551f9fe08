#include "server/trainer/harvest_states.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/diffusion/text_activations.h"
#include "core/evaluation/reader.h"
#include "core/tensors/from_float.h"
#include "core/tensors/safetensors.h"
#include "core/training/state_dataset.h"
#include "kernels/runtime/thread_pool.h"

namespace dreamstate::trainer {
namespace {

using evaluation::Harvested;
using training::Document;
using training::Split;
using training::StateDataset;
using training::StateDatasetInfo;

constexpr Split kSplits[] = {Split::kTrain, Split::kValid, Split::kTest};

// What becomes a shard.
struct Content {
  int64_t states = 0, excerpts = 0;
  std::string wkv, shift, before_wkv, before_shift, activations;
  std::vector<int32_t> labels, documents, positions, excerpt_documents;
};

absl::Status WriteShard(const StateDatasetInfo& info, const Content& content,
                        const std::string& path) {
  const state::Shape& s = info.shape;
  const auto bytes = [](const auto& values) { return std::as_bytes(std::span(values)); };
  const auto integers = [&](const char* name, const std::vector<int32_t>& values) {
    return tensors::Tensor{.name = name,
                           .dtype = tensors::DType::kI32,
                           .shape = {static_cast<int64_t>(values.size())},
                           .data = bytes(values)};
  };
  const auto halves = [&](const char* name, tensors::Shape shape, const std::string& values) {
    return tensors::Tensor{.name = name,
                           .dtype = tensors::DType::kF16,
                           .shape = std::move(shape),
                           .data = bytes(values)};
  };
  const tensors::Shape wkv = {content.states, s.layers, s.heads, s.head_size, s.head_size};
  const tensors::Shape shift = {content.states, s.layers, 2, s.width};
  std::vector<tensors::Tensor> list = {
      integers("label", content.labels),
      integers("document", content.documents),
      integers("position", content.positions),
      integers("excerpt.document", content.excerpt_documents),
      halves("wkv", wkv, content.wkv),
      halves("shift", shift, content.shift),
      halves("excerpt.activations",
             {content.excerpts, info.excerpts, info.excerpt_tokens, info.activation_width()},
             content.activations)};
  if (info.before) {
    list.push_back(halves("before.wkv", wkv, content.before_wkv));
    list.push_back(halves("before.shift", shift, content.before_shift));
  }
  return tensors::WriteSafetensors(path, list, {});
}

class Harvester {
 public:
  Harvester(const HarvestOptions& options, const training::Corpus& corpus,
            const LoadedBackbone& backbone, const StateDataset& dataset)
      : options_(options),
        corpus_(corpus),
        separator_(backbone.separator_token),
        dataset_(dataset),
        info_(dataset.info()),
        pool_(ThreadsOf(options.threads)),
        reader_(backbone.weights, {}, pool_),
        engine_(backbone.weights, {.max_tokens = 1024, .max_sequences = 32, .slots = 32}, pool_) {}

  absl::Status Shard(Split split, int shard, HarvestReport* report) {
    const std::vector<Document>& documents = corpus_.documents(split);
    const auto begin = static_cast<size_t>(shard) * static_cast<size_t>(info_.documents_per_shard);
    const size_t end =
        std::min(documents.size(), begin + static_cast<size_t>(info_.documents_per_shard));
    Content content;
    DS_RETURN_IF_ERROR(States(split, begin, end, &content, report));
    DS_RETURN_IF_ERROR(Excerpts(split, begin, end, &content, report));
    DS_RETURN_IF_ERROR(corpus_.CheckNothingLost());
    report->states += content.states;
    return WriteShard(info_, content, dataset_.ShardPath(split, shard));
  }

 private:
  std::vector<int32_t> Tokens(Split split, const Document& document, int64_t from,
                              int64_t to) const {
    const std::span<const uint16_t> tokens = corpus_.tokens(split, document);
    return {tokens.begin() + from, tokens.begin() + to};
  }

  static absl::Status Append(const state::State& state, std::string* wkv, std::string* shift) {
    DS_RETURN_IF_ERROR(tensors::AppendFromFloat(state.wkv, tensors::DType::kF16, wkv));
    return tensors::AppendFromFloat(state.shift, tensors::DType::kF16, shift);
  }

  // Position after position, all documents that are long enough at once.
  absl::Status States(Split split, size_t begin, size_t end, Content* content,
                      HarvestReport* report) {
    std::vector<Harvested> reached(end - begin);
    int64_t from = 0;
    for (const int position : info_.positions) {
      std::vector<size_t> long_enough;
      std::vector<evaluation::Reading> readings;
      for (size_t i = begin; i < end; ++i) {
        const Document& document = corpus_.documents(split)[i];
        if (document.tokens < position) continue;
        evaluation::Reading reading = {.from = from == 0 ? nullptr : &reached[i - begin],
                                       .context = Tokens(split, document, from, position),
                                       .harvest = true};
        if (from == 0) reading.context.insert(reading.context.begin(), separator_);
        report->tokens += static_cast<int64_t>(reading.context.size()) + 1;
        readings.push_back(std::move(reading));
        long_enough.push_back(i);
      }
      DS_ASSIGN_OR_RETURN(std::vector<evaluation::ReadResult> before, reader_.Read(readings));
      std::vector<evaluation::Reading> separators;
      for (size_t i = 0; i < long_enough.size(); ++i) {
        Harvested& state = reached[long_enough[i] - begin];
        state = std::move(before[i].harvested);
        separators.push_back({.from = &state, .context = {separator_}, .harvest = true});
      }
      DS_ASSIGN_OR_RETURN(const std::vector<evaluation::ReadResult> after,
                          reader_.Read(separators));
      for (size_t i = 0; i < long_enough.size(); ++i) {
        content->labels.push_back(corpus_.documents(split)[long_enough[i]].label);
        content->documents.push_back(static_cast<int32_t>(long_enough[i]));
        content->positions.push_back(position);
        ++content->states;
        DS_RETURN_IF_ERROR(Append(after[i].harvested.state, &content->wkv, &content->shift));
        if (!info_.before) continue;
        DS_RETURN_IF_ERROR(Append(reached[long_enough[i] - begin].state, &content->before_wkv,
                                  &content->before_shift));
      }
      from = position;
    }
    return absl::OkStatus();
  }

  absl::Status Excerpts(Split split, size_t begin, size_t end, Content* content,
                        HarvestReport* report) {
    std::vector<std::vector<int32_t>> texts;
    for (size_t i = begin; i < end; ++i) {
      const Document& document = corpus_.documents(split)[i];
      const std::vector<int64_t> starts =
          training::ExcerptStarts(info_, split, static_cast<int64_t>(i), document.tokens);
      if (starts.empty()) continue;
      for (const int64_t at : starts) {
        texts.push_back(Tokens(split, document, at, at + info_.excerpt_tokens));
        report->tokens += info_.excerpt_tokens + 1;
      }
      content->excerpt_documents.push_back(static_cast<int32_t>(i));
      ++content->excerpts;
    }
    DS_ASSIGN_OR_RETURN(const std::vector<std::vector<float>> activations,
                        diffusion::TextActivations(engine_, texts, separator_, info_.taps));
    for (const std::vector<float>& text : activations) {
      DS_RETURN_IF_ERROR(
          tensors::AppendFromFloat(text, tensors::DType::kF16, &content->activations));
    }
    return absl::OkStatus();
  }

  const HarvestOptions& options_;
  const training::Corpus& corpus_;
  const int32_t separator_;
  const StateDataset& dataset_;
  const StateDatasetInfo& info_;
  kernels::ThreadPool pool_;
  evaluation::Reader reader_;
  rwkv::Engine engine_;
};

StateDatasetInfo InfoOf(const HarvestOptions& options, const training::Corpus& corpus,
                        const LoadedBackbone& backbone) {
  StateDatasetInfo info;
  info.backbone = backbone.weights->fingerprint;
  info.shape = state::Shape::Of(backbone.weights->config);
  info.tokenizer = corpus.tokenizer();
  info.separator = backbone.separator_token;
  info.corpus = corpus.digest();
  info.labels = corpus.labels();
  for (size_t label = 0; label < info.labels.size(); ++label) {
    info.trained.push_back(corpus.trained(static_cast<int32_t>(label)));
  }
  info.positions = options.positions;
  std::sort(info.positions.begin(), info.positions.end());
  info.before = options.before;
  info.excerpts = options.excerpts;
  info.excerpt_tokens = options.excerpt_tokens;
  const int layers = info.shape.layers;
  info.taps = !options.taps.empty() ? options.taps
              : layers > 1          ? std::vector<int>{(layers - 1) / 2, layers - 1}
                                    : std::vector<int>{0};
  info.documents_per_shard = options.documents_per_shard;
  info.seed = options.seed;
  for (const Split split : kSplits) {
    const auto documents = static_cast<int>(corpus.documents(split).size());
    info.shards[static_cast<int>(split)] =
        (documents + info.documents_per_shard - 1) / info.documents_per_shard;
  }
  return info;
}

}  // namespace

absl::StatusOr<HarvestReport> HarvestStates(const HarvestOptions& options) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<const training::Corpus> corpus,
                      training::Corpus::Open(options.corpus));
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<const text::Tokenizer> tokenizer,
                      text::MakeTokenizer(corpus->tokenizer()));
  DS_ASSIGN_OR_RETURN(const LoadedBackbone backbone,
                      LoadBackbone(options.backbone, options.weights));
  DS_RETURN_IF_ERROR(CheckFits(backbone, *corpus, *tokenizer));
  DS_ASSIGN_OR_RETURN(const StateDataset dataset,
                      StateDataset::Create(options.directory, InfoOf(options, *corpus, backbone)));
  Harvester harvester(options, *corpus, backbone, dataset);
  HarvestReport report;
  int64_t done = 0, all = 0;
  for (const Split split : kSplits) all += dataset.info().shards[static_cast<int>(split)];
  options.progress("shards", 0, all);
  int number = 0;
  for (const Split split : kSplits) {
    for (int shard = 0; shard < dataset.info().shards[static_cast<int>(split)]; ++shard) {
      const bool mine = number++ % options.workers == options.worker;
      if (dataset.HasShard(split, shard)) {
        ++report.shards_there;
      } else if (mine) {
        DS_RETURN_IF_ERROR(CheckStopping(options.stopping));
        DS_RETURN_IF_ERROR(harvester.Shard(split, shard, &report));
        ++report.shards_made;
      }
      options.progress("shards", ++done, all);
    }
  }
  report.complete = true;
  for (const Split split : kSplits) report.complete &= dataset.CheckComplete(split).ok();
  return report;
}

}  // namespace dreamstate::trainer
