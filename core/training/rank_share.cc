#include "core/training/rank_share.h"

namespace dreamstate::training {

RankShare ShareOf(const Batch& batch, const Ranks& ranks) {
  RankShare share = {.batch = {.rows = 0, .tokens = batch.tokens}};
  for (int row = 0; row < batch.rows; ++row) {
    if (!IsOurs(row, ranks)) continue;
    const auto begin = int64_t{row} * batch.tokens;
    const auto append = [&](const std::vector<int32_t>& from, std::vector<int32_t>* to) {
      to->insert(to->end(), from.begin() + begin, from.begin() + begin + batch.tokens);
    };
    append(batch.inputs, &share.batch.inputs);
    append(batch.targets, &share.batch.targets);
    share.batch.row.push_back(batch.row[row]);
    share.rows.push_back(row);
    ++share.batch.rows;
  }
  return share;
}

}  // namespace dreamstate::training
