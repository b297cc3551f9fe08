#include "core/evaluation/domain_losses.h"

#include <numbers>
#include <numeric>
#include <span>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::evaluation {
namespace {

MeanLoss MeanLossOf(const std::vector<Group>& groups, const BootstrapOptions& options) {
  MeanLoss mean;
  mean.domains = static_cast<int>(groups.size());
  if (groups.empty()) return mean;
  mean.bits_per_byte = MeanOf(groups);
  mean.interval = IntervalOf(groups, options);
  return mean;
}

nlohmann::ordered_json JsonOf(const Interval& interval) {
  return nlohmann::ordered_json::array({interval.low, interval.high});
}

nlohmann::ordered_json JsonOf(const MeanLoss& mean) {
  return {{"domains", mean.domains},
          {"bits_per_byte", mean.bits_per_byte},
          {"interval", JsonOf(mean.interval)}};
}

std::vector<std::string> RowOf(const MeanLoss& mean, const std::string& name) {
  return {name, "", "", "", ShowBits(mean.bits_per_byte), ShowInterval(mean.interval, ShowBits)};
}

}  // namespace

absl::StatusOr<DomainLosses> MeasureDomains(const BackboneUnderTest& backbone,
                                            const DomainOptions& options) {
  const training::Corpus& corpus = backbone.corpus;
  const std::vector<training::Excerpt> excerpts =
      training::ChooseExcerpts(corpus, options.split, backbone.tokenizer, options.limits);
  if (excerpts.empty()) {
    return absl::FailedPreconditionError(StrCat("corpus: expected documents in the split ",
                                                training::SplitName(options.split),
                                                ", found none"));
  }
  DomainLosses losses;
  std::vector<Reading> readings;
  for (const training::Excerpt& excerpt : excerpts) {
    readings.push_back({.context = {backbone.separator},
                        .scored = {excerpt.tokens.begin(), excerpt.tokens.end()}});
    losses.tokens += static_cast<int64_t>(excerpt.tokens.size());
  }
  int64_t done = 0;
  const auto report = [&](int64_t tokens) {
    done += tokens;
    if (backbone.progress) backbone.progress("bits per byte", done, losses.tokens);
  };
  report(0);
  DS_ASSIGN_OR_RETURN(const std::vector<ReadResult> results,
                      backbone.reader.Read(readings, report));

  std::vector<Group> groups(corpus.labels().size());  // by label
  for (size_t i = 0; i < excerpts.size(); ++i) {
    const std::vector<float>& nll = results[i].nll;
    const double bits = std::accumulate(nll.begin(), nll.end(), 0.0) / std::numbers::ln2;
    groups[excerpts[i].label].push_back({bits, static_cast<double>(excerpts[i].bytes)});
  }
  std::vector<Group> trained, shifted;
  for (int32_t label = 0; label < static_cast<int32_t>(groups.size()); ++label) {
    const Group& group = groups[label];
    if (group.empty()) continue;
    DomainLoss loss;
    loss.label = corpus.labels()[label];
    loss.trained = corpus.trained(label);
    loss.documents = static_cast<int>(group.size());
    for (const Sample& sample : group) loss.bytes += static_cast<int64_t>(sample.weight);
    loss.bits_per_byte = MeanOf(group);
    loss.interval = IntervalOf(group, options.bootstrap);
    losses.domains.push_back(std::move(loss));
    (corpus.trained(label) ? trained : shifted).push_back(group);
  }
  losses.trained = MeanLossOf(trained, options.bootstrap);
  losses.shifted = MeanLossOf(shifted, options.bootstrap);
  return losses;
}

Table DomainTable(const DomainLosses& losses, const DomainOptions& options) {
  Table table;
  table.title =
      StrCat("Bits per byte, ", training::SplitName(options.split),
             " documents from the zero state: the first ", options.limits.document_bytes,
             " bytes of a document, at most ", options.limits.label_bytes, " of a domain");
  table.columns = {"domain", "", "documents", "bytes", "bits per byte", "95 % interval"};
  table.columns.back() = StrCat(100 * options.bootstrap.confidence, " % interval");
  for (const DomainLoss& loss : losses.domains) {
    table.rows.push_back({loss.label, loss.trained ? "" : "shifted", StrCat(loss.documents),
                          StrCat(loss.bytes), ShowBits(loss.bits_per_byte),
                          ShowInterval(loss.interval, ShowBits)});
  }
  if (losses.trained.domains > 0) {
    table.rows.push_back(
        RowOf(losses.trained, StrCat("mean of ", losses.trained.domains, " trained")));
  }
  if (losses.shifted.domains > 0) {
    table.rows.push_back(
        RowOf(losses.shifted, StrCat("mean of ", losses.shifted.domains, " shifted")));
  }
  table.notes = {StrCat("Intervals: bootstrap over documents, ", options.bootstrap.resamples,
                        " resamples; shifted domains are never trained on.")};
  return table;
}

nlohmann::ordered_json DomainJson(const DomainLosses& losses, const DomainOptions& options) {
  nlohmann::ordered_json domains = nlohmann::ordered_json::array();
  for (const DomainLoss& loss : losses.domains) {
    domains.push_back({{"label", loss.label},
                       {"trained", loss.trained},
                       {"documents", loss.documents},
                       {"bytes", loss.bytes},
                       {"bits_per_byte", loss.bits_per_byte},
                       {"interval", JsonOf(loss.interval)}});
  }
  return {{"split", std::string(training::SplitName(options.split))},
          {"document_bytes", options.limits.document_bytes},
          {"label_bytes", options.limits.label_bytes},
          {"resamples", options.bootstrap.resamples},
          {"confidence", options.bootstrap.confidence},
          {"seed", options.bootstrap.seed},
          {"trained", JsonOf(losses.trained)},
          {"shifted", JsonOf(losses.shifted)},
          {"domains", std::move(domains)}};
}

}  // namespace dreamstate::evaluation
