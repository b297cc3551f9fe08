#include "server/inference/version_end.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace dreamstate::server {
namespace {

TEST(VersionEnd, TellsTheFirstReasonOnce) {
  VersionEnd end;
  int told = 0;
  const auto watch = end.Watch([&](const absl::Status& reason) {
    ++told;
    EXPECT_EQ(reason.message(), "first");
  });
  EXPECT_TRUE(end.status().ok());
  EXPECT_EQ(told, 0);
  end.End(absl::UnavailableError("first"));
  end.End(absl::UnavailableError("second"));
  EXPECT_EQ(end.status().message(), "first");
  EXPECT_EQ(told, 1);
}

TEST(VersionEnd, WhoeverWatchesAfterwardsIsToldAtOnce) {
  VersionEnd end;
  end.End(absl::UnavailableError("over"));
  int told = 0;
  const auto watch = end.Watch([&](const absl::Status&) { ++told; });
  EXPECT_EQ(told, 1);
}

TEST(VersionEnd, WhoeverLetsGoIsNotTold) {
  VersionEnd end;
  int told = 0;
  for (int i = 0; i < 3; ++i) end.Watch([&](const absl::Status&) { ++told; });
  end.End(absl::UnavailableError("over"));
  EXPECT_EQ(told, 0);
}

TEST(VersionEnd, WatchersThatComeAndGoWhileItEndsAreToldAtMostOnceAndNeverAfterTheyWent) {
  for (int round = 0; round < 200; ++round) {
    VersionEnd end;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) {
          const auto told = std::make_unique<std::atomic<int>>(0);
          auto watch = end.Watch([&](const absl::Status& reason) {
            EXPECT_FALSE(reason.ok());
            ++*told;
          });
          watch.reset();
          EXPECT_LE(*told, 1);
        }
      });
    }
    threads.emplace_back([&] { end.End(absl::UnavailableError("over")); });
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace
}  // namespace dreamstate::server
