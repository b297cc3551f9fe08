#include "core/state/identifier.h"

#include <algorithm>

#include "core/base/random.h"

namespace dreamstate::state {
namespace {

constexpr std::string_view kDigits = "0123456789abcdefghjkmnpqrstvwxyz";
constexpr uint64_t kMaxMs = (uint64_t{1} << 48) - 1;
constexpr uint64_t kMaxHigh = (uint64_t{1} << 16) - 1;

// 26 digits of 5 bits hold 130: the first digit carries 3.
std::string Encode(uint64_t high, uint64_t low) {
  std::string text(kIdBytes, '0');
  for (size_t i = kIdBytes; i-- > 0;) {
    text[i] = kDigits[low & 31];
    low = (low >> 5) | (high << 59);
    high >>= 5;
  }
  return text;
}

}  // namespace

bool IsStateId(std::string_view text) {
  return text.size() == kIdBytes && text[0] <= '7' &&
         text.find_first_not_of(kDigits) == std::string_view::npos;
}

std::string IdSource::Next(absl::Time now) {
  const int64_t now_ms = std::max<int64_t>(absl::ToUnixMillis(now), 0);
  const uint64_t ms = std::min(static_cast<uint64_t>(now_ms), kMaxMs);
  const uint64_t random_high = EntropyBits();
  const uint64_t random_low = EntropyBits();
  MutexLock lock(mutex_);
  if (ms > last_ms_) {
    last_ms_ = ms;
    // The top bit stays free, so that counting up has room.
    last_high_ = random_high & (kMaxHigh >> 1);
    last_low_ = random_low;
  } else if (++last_low_ == 0 && ++last_high_ > kMaxHigh) {
    last_high_ = 0;
    last_ms_ = std::min(last_ms_ + 1, kMaxMs);
  }
  return Encode((last_ms_ << 16) | last_high_, last_low_);
}

}  // namespace dreamstate::state
