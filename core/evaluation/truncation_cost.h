// What is lost when part of a state is thrown away: bits that the truncated own state
// (core/evaluation/truncation.h, and the codec of core/diffusion/state_codec.h with some of its
// blocks) saves over the zero state, as a share of what the whole own state saves (design:
// science.md, table C3).
//
// All rows have the mean shift vectors of the training documents' states after the separator and
// read one separator more, as the rows "constant shift" of core/evaluation/state_use.h, which they
// can be compared with. The codec is fitted on the same training documents. Controls: the class
// mean and another document's state, which are worth what is not the own text's; shuffled entries,
// which are worth nothing.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/evaluation/backbone.h"
#include "core/evaluation/state_use.h"
#include "core/evaluation/table.h"
#include "nlohmann/json.hpp"

namespace dreamstate::evaluation {

struct TruncatedWorth {
  std::string id;     // of a row of TruncationCost::use
  double share = 0;   // of the bits that the own state saves; 0 when it saves none
  Interval interval;  // of the share; documents are resampled, each with its own state's bits
  double error = 0;   // mean over windows of |made - own| / |own|, of the matrices
};

struct TruncationCost {
  StateUse use;                       // the rows
  std::vector<TruncatedWorth> worth;  // of each, in order; the first is the own state

  // Null when there is none of that id.
  const TruncatedWorth* Find(std::string_view id) const;
};

// As MeasureStateUse.
absl::StatusOr<TruncationCost> MeasureTruncation(const BackboneUnderTest& backbone,
                                                 const StateUseOptions& options);

Table TruncationTable(const TruncationCost& cost, const StateUseOptions& options);
nlohmann::ordered_json TruncationJson(const TruncationCost& cost, const StateUseOptions& options);

}  // namespace dreamstate::evaluation
