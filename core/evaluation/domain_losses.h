// Bits per byte by domain: how well a backbone predicts the documents of each label. A document is
// read from the zero state with the separator first, as a text begins in training, and all of its
// bytes are scored, the first one too (design: science.md, table B; spec section 7).
//
// Which bytes: training::ChooseExcerpts, the same as for the baselines (xz, zstd, n-grams).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/evaluation/backbone.h"
#include "core/evaluation/bootstrap.h"
#include "core/evaluation/table.h"
#include "core/training/excerpts.h"
#include "nlohmann/json.hpp"

namespace dreamstate::evaluation {

struct DomainOptions {
  training::Split split = training::Split::kTest;
  training::ExcerptLimits limits;
  BootstrapOptions bootstrap;
};

struct DomainLoss {
  std::string label;
  bool trained = false;
  int documents = 0;
  int64_t bytes = 0;
  double bits_per_byte = 0;
  Interval interval;
};

struct MeanLoss {
  int domains = 0;
  double bits_per_byte = 0;  // the mean of the domains', each counting the same
  Interval interval;
};

struct DomainLosses {
  std::vector<DomainLoss> domains;  // of labels with documents in the split, as the corpus's labels
  MeanLoss trained, shifted;        // 0 domains: there are none of them
  int64_t tokens = 0;               // scored
};

// FAILED_PRECONDITION when the split has no text.
absl::StatusOr<DomainLosses> MeasureDomains(const BackboneUnderTest& backbone,
                                            const DomainOptions& options);

Table DomainTable(const DomainLosses& losses, const DomainOptions& options);
nlohmann::ordered_json DomainJson(const DomainLosses& losses, const DomainOptions& options);

}  // namespace dreamstate::evaluation
