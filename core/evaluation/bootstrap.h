// How sure a mean over documents is: percentile intervals of the bootstrap (Efron and Tibshirani,
// An Introduction to the Bootstrap, 1993, chapter 13), resampling whole documents, since the bytes
// of one document are no independent samples. Groups (domains) keep their number of documents: the
// question is how another draw of documents would have come out, not another draw of domains.
// Pure functions; the same numbers, options and seed give the same interval.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace dreamstate::evaluation {

// What one document adds to a ratio: bits and bytes, say.
struct Sample {
  double sum = 0;
  // Of one document it may be negative (bits that a state saves), of all together it should not be
  // near 0.
  double weight = 0;
};
using Group = std::vector<Sample>;

struct Interval {
  double low = 0, high = 0;
};

struct BootstrapOptions {
  int resamples = 2000;      // >= 1
  double confidence = 0.95;  // in (0, 1)
  uint64_t seed = 0;
};

// The mean over groups of (sum of sums / sum of weights); groups whose weights
// sum to 0 or less are left out. 0 when all are.
double MeanOf(std::span<const Group> groups);
double MeanOf(const Group& group);

// The percentile interval of MeanOf.
Interval IntervalOf(std::span<const Group> groups, const BootstrapOptions& options);
Interval IntervalOf(const Group& group, const BootstrapOptions& options);

}  // namespace dreamstate::evaluation
