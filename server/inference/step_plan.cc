#include "server/inference/step_plan.h"

#include <algorithm>
#include <cstddef>

namespace dreamstate::server {

void PlanStep(std::span<const WorkOffer> offers, const StepBudget& budget, uint64_t turn,
              std::span<int> counts) {
  std::fill(counts.begin(), counts.end(), 0);
  const size_t number = offers.size();
  if (number == 0) return;
  const size_t first = turn % number;
  const auto in_turn = [&](size_t k) { return (first + k) % number; };
  int tokens = budget.tokens;
  int sequences = budget.sequences;

  int prefills = 0;
  for (size_t k = 0; k < number; ++k) {
    const size_t i = in_turn(k);
    if (offers[i].kind == WorkKind::kPrefill) {
      ++prefills;
    } else if (tokens > 0 && sequences > 0) {
      counts[i] = 1;
      --tokens;
      --sequences;
    }
  }

  // Everyone an equal share, rounded up; then what the short ones left over.
  int to_serve = std::min(prefills, sequences);
  for (size_t k = 0; k < number && to_serve > 0 && tokens > 0; ++k) {
    const size_t i = in_turn(k);
    if (offers[i].kind != WorkKind::kPrefill) continue;
    const int share = (tokens + to_serve - 1) / to_serve;
    counts[i] = static_cast<int>(std::min<int64_t>(share, offers[i].tokens));
    tokens -= counts[i];
    --to_serve;
  }
  for (size_t k = 0; k < number && tokens > 0; ++k) {
    const size_t i = in_turn(k);
    if (offers[i].kind != WorkKind::kPrefill || counts[i] == 0) continue;
    const int more = static_cast<int>(std::min<int64_t>(tokens, offers[i].tokens - counts[i]));
    counts[i] += more;
    tokens -= more;
  }
}

}  // namespace dreamstate::server
