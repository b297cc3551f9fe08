#include "tests/benchmarks/serve/report.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_format.h"

namespace dreamstate::benchmarks {
namespace {

using Json = nlohmann::ordered_json;

Json Percentiles(const std::vector<double>& values) {
  if (values.empty()) return nullptr;
  return {{"p50", Percentile(values, 0.5)},
          {"p90", Percentile(values, 0.9)},
          {"p99", Percentile(values, 0.99)},
          {"max", Percentile(values, 1)}};
}

Json SummariseKind(const std::string& kind, const std::vector<const Sample*>& samples,
                   double seconds) {
  std::vector<double> call, first, token;
  std::map<std::string, int64_t> errors;
  int64_t input = 0, output = 0;
  for (const Sample* sample : samples) {
    const Outcome& outcome = sample->outcome;
    if (outcome.code != 0) {
      ++errors[std::to_string(outcome.code)];
      continue;
    }
    input += outcome.input_tokens;
    output += outcome.output_tokens;
    call.push_back(absl::ToDoubleMilliseconds(sample->waited + sample->took));
    if (outcome.output_tokens == 0) continue;
    first.push_back(absl::ToDoubleMilliseconds(sample->waited + outcome.first_output));
    if (outcome.output_tokens > 1) {
      token.push_back(absl::ToDoubleMilliseconds(outcome.last_output - outcome.first_output) /
                      static_cast<double>(outcome.output_tokens - 1));
    }
  }
  return {{"kind", kind},
          {"calls", samples.size()},
          {"errors", errors.empty() ? Json(nullptr) : Json(errors)},
          {"calls_per_second", static_cast<double>(call.size()) / seconds},
          {"input_tokens_per_second", static_cast<double>(input) / seconds},
          {"output_tokens_per_second", static_cast<double>(output) / seconds},
          {"call_ms", Percentiles(call)},
          {"first_token_ms", Percentiles(first)},
          {"token_ms", Percentiles(token)}};
}

std::string Cell(const Json& percentiles) {
  if (percentiles.is_null()) return absl::StrFormat("%27s", "-");
  return absl::StrFormat("%9.2f%9.2f%9.2f", percentiles["p50"].get<double>(),
                         percentiles["p90"].get<double>(), percentiles["p99"].get<double>());
}

}  // namespace

double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto count = static_cast<double>(values.size());
  const auto rank = static_cast<size_t>(std::clamp(std::ceil(share * count), 1.0, count)) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(rank), values.end());
  return values[rank];
}

Json Summarise(const LoadOptions& options, const LoadResult& result) {
  const double seconds = std::max(absl::ToDoubleSeconds(result.elapsed), 1e-9);
  Json summary = {{"loop", options.arrivals_per_second > 0 ? "open" : "closed"},
                  {"callers", options.callers},
                  {"arrivals_per_second", options.arrivals_per_second},
                  {"seconds", seconds},
                  {"kinds", Json::array()}};
  std::vector<const Sample*> all;
  for (const Sample& sample : result.samples) all.push_back(&sample);
  for (size_t kind = 0; kind < options.mix.size(); ++kind) {
    std::vector<const Sample*> some;
    std::copy_if(all.begin(), all.end(), std::back_inserter(some),
                 [&](const Sample* sample) { return sample->kind == kind; });
    summary["kinds"].push_back(SummariseKind(options.mix[kind].kind, some, seconds));
  }
  if (options.mix.size() > 1) summary["kinds"].push_back(SummariseKind("all", all, seconds));
  return summary;
}

bool AnySucceeded(const LoadResult& result) {
  return std::ranges::any_of(result.samples,
                             [](const Sample& sample) { return sample.outcome.code == 0; });
}

std::string Table(const Json& summary) {
  std::string table = absl::StrFormat(
      "%s loop, %d callers%s, %.1f s\n%-9s%7s%7s%9s%10s%10s  %27s  %27s  %27s\n",
      summary["loop"].get<std::string>(), summary["callers"].get<int>(),
      summary["loop"] == "open" ? absl::StrFormat(" at most, %.1f arrivals a second",
                                                  summary["arrivals_per_second"].get<double>())
                                : "",
      summary["seconds"].get<double>(), "KIND", "CALLS", "ERRORS", "CALLS/S", "TOK/S IN",
      "TOK/S OUT", "CALL ms: p50  p90  p99", "FIRST TOKEN ms", "TOKEN TO TOKEN ms");
  for (const Json& kind : summary["kinds"]) {
    int64_t errors = 0;
    if (!kind["errors"].is_null()) {
      for (const auto& [code, count] : kind["errors"].items()) errors += count.get<int64_t>();
    }
    table += absl::StrFormat("%-9s%7d%7d%9.1f%10.0f%10.0f  %s  %s  %s\n",
                             kind["kind"].get<std::string>(), kind["calls"].get<int64_t>(), errors,
                             kind["calls_per_second"].get<double>(),
                             kind["input_tokens_per_second"].get<double>(),
                             kind["output_tokens_per_second"].get<double>(), Cell(kind["call_ms"]),
                             Cell(kind["first_token_ms"]), Cell(kind["token_ms"]));
    if (!kind["errors"].is_null()) {
      table += absl::StrFormat("         errors by code: %s\n", kind["errors"].dump());
    }
  }
  return table;
}

}  // namespace dreamstate::benchmarks
