#include "core/training/ranks.h"

#include <cstdlib>

#include "absl/strings/numbers.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::training {
namespace {

absl::StatusOr<int> Number(const char* name, int least, int most) {
  const char* text = std::getenv(name);
  int value = 0;
  if (text == nullptr || !absl::SimpleAtoi(text, &value) || value < least || value > most) {
    return absl::InvalidArgumentError(
        StrCat("environment variable ", name, ": expected ", least, " to ", most, ", found ",
               text == nullptr ? std::string("nothing") : StrCat("\"", text, "\"")));
  }
  return value;
}

}  // namespace

absl::StatusOr<Ranks> RanksFromEnvironment() {
  Ranks ranks;
  if (std::getenv("RANK") == nullptr && std::getenv("WORLD_SIZE") == nullptr) return ranks;
  constexpr int kMostRanks = 1 << 16;
  DS_ASSIGN_OR_RETURN(ranks.size, Number("WORLD_SIZE", 1, kMostRanks));
  DS_ASSIGN_OR_RETURN(ranks.rank, Number("RANK", 0, ranks.size - 1));
  ranks.local_rank = ranks.rank;
  if (std::getenv("LOCAL_RANK") != nullptr) {
    DS_ASSIGN_OR_RETURN(ranks.local_rank, Number("LOCAL_RANK", 0, ranks.size - 1));
  }
  if (ranks.alone()) return ranks;
  const char* address = std::getenv("MASTER_ADDR");
  if (address == nullptr || *address == '\0') {
    return absl::InvalidArgumentError(
        "environment variable MASTER_ADDR: expected the host of rank 0, found nothing");
  }
  ranks.address = address;
  DS_ASSIGN_OR_RETURN(ranks.port, Number("MASTER_PORT", 1, 65535));
  return ranks;
}

}  // namespace dreamstate::training
