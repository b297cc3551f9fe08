// What a load found, for people and for machines.
#pragma once

#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/benchmarks/serve/load.h"

namespace dreamstate::benchmarks {

// The smallest of `values` that at least `share` (in (0, 1]) of them do not exceed; 0 of none.
double Percentile(std::vector<double> values, double share);

// Of each kind and of all together: calls, errors by code, rates, and percentiles in milliseconds
// of the whole call, the time to the first output and the time from one output token to the next.
// Errors count as calls; neither their times nor their rate do.
nlohmann::ordered_json Summarise(const LoadOptions& options, const LoadResult& result);
// False when every call failed, or there was none: what such a load measured is worth nothing.
bool AnySucceeded(const LoadResult& result);
// The summary as a table of a few lines.
std::string Table(const nlohmann::ordered_json& summary);

}  // namespace dreamstate::benchmarks
