#include "core/state/identifier.h"

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace dreamstate::state {
namespace {

TEST(IdSource, NamesAreOrderedByTime) {
  IdSource ids;
  std::string last;
  for (int64_t ms : {int64_t{0}, int64_t{1}, int64_t{31}, int64_t{32}, int64_t{1'700'000'000'000},
                     (int64_t{1} << 48) - 1}) {
    const std::string id = ids.Next(absl::FromUnixMillis(ms));
    EXPECT_TRUE(IsStateId(id)) << id;
    EXPECT_LT(last, id);
    last = id;
  }
}

TEST(IdSource, TheFirstTenCharactersAreTheTime) {
  IdSource ids;
  // 2^5k milliseconds are a one and k zeros.
  EXPECT_EQ(ids.Next(absl::FromUnixMillis(1 << 10)).substr(0, 10), "0000000100");
  EXPECT_EQ(ids.Next(absl::FromUnixMillis((1 << 10) + 31)).substr(0, 10), "000000010z");
}

TEST(IdSource, OrderIsKeptWithinAMillisecondAndWhenTheClockStepsBack) {
  IdSource ids;
  std::string last;
  for (int i = 0; i < 100'000; ++i) {
    const std::string id = ids.Next(absl::FromUnixMillis(1'700'000'000'000 - i / 50'000));
    ASSERT_LT(last, id);
    last = id;
  }
  EXPECT_LT(last, ids.Next(absl::FromUnixMillis(-5)));
  EXPECT_LT(last, ids.Next(absl::InfiniteFuture()));
}

TEST(IdSource, ThreadsAndSourcesNeverMeet) {
  IdSource shared;
  std::vector<std::vector<std::string>> made(4);
  std::vector<std::thread> threads;
  for (auto& ids : made) {
    threads.emplace_back([&ids, &shared] {
      IdSource own;
      for (int i = 0; i < 1000; ++i) {
        ids.push_back(shared.Next(absl::FromUnixMillis(5)));
        ids.push_back(own.Next(absl::FromUnixMillis(5)));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<std::string> all;
  for (const auto& ids : made) all.insert(ids.begin(), ids.end());
  EXPECT_EQ(all.size(), 8000u);
}

TEST(IsStateId, RefusesWhatNoSourceMakes) {
  const std::string good = IdSource().Next(absl::FromUnixMillis(1));
  EXPECT_TRUE(IsStateId(good));
  EXPECT_FALSE(IsStateId(""));
  EXPECT_FALSE(IsStateId(good.substr(1)));
  EXPECT_FALSE(IsStateId(good + "0"));
  for (const char bad : {'i', 'l', 'o', 'u', 'A', '-', '\0', '/'}) {
    std::string id = good;
    id[13] = bad;
    EXPECT_FALSE(IsStateId(id)) << bad;
  }
  std::string too_late = good;
  too_late[0] = '8';
  EXPECT_FALSE(IsStateId(too_late));
}

}  // namespace
}  // namespace dreamstate::state
