#include "client/retry.h"

#include <random>

#include "client/rpc_status.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace dreamstate::client {
namespace {

constexpr absl::Duration kForever = absl::InfiniteDuration();

const absl::Status kLost = absl::UnavailableError("connection refused");
absl::Status Busy(int64_t delay_ms) {
  return FromRpc(RetryLater(grpc::StatusCode::RESOURCE_EXHAUSTED, delay_ms));
}

TEST(NextRetry, RepeatsOnlyWhatCannotHappenTwice) {
  const RetryPolicy policy;
  std::mt19937 random;
  const auto repeats = [&](Repeatable repeatable, const absl::Status& status) {
    return NextRetry(policy, repeatable, status, 1, kForever, random).has_value();
  };
  EXPECT_TRUE(repeats(Repeatable::kAlways, kLost));
  EXPECT_FALSE(repeats(Repeatable::kOnlyWhenRefused, kLost)) << "the change may have happened";
  EXPECT_TRUE(repeats(Repeatable::kAlways, Busy(10)));
  EXPECT_TRUE(repeats(Repeatable::kOnlyWhenRefused, Busy(10)));
  EXPECT_FALSE(repeats(Repeatable::kAlways, absl::ResourceExhaustedError("quota")))
      << "no time to come back was given";
  for (const auto code : {absl::StatusCode::kInvalidArgument, absl::StatusCode::kNotFound,
                          absl::StatusCode::kInternal, absl::StatusCode::kDeadlineExceeded,
                          absl::StatusCode::kDataLoss}) {
    EXPECT_FALSE(repeats(Repeatable::kAlways, absl::Status(code, "")));
  }
}

TEST(NextRetry, NeverComesBackBeforeTheServerAsked) {
  std::mt19937 random;
  for (int i = 0; i < 1000; ++i) {
    const auto delay = NextRetry({}, Repeatable::kAlways, Busy(5000), 1, kForever, random);
    ASSERT_TRUE(delay.has_value());
    EXPECT_GE(*delay, absl::Seconds(5));
    EXPECT_LE(*delay, absl::Seconds(6));
  }
}

TEST(NextRetry, GivesUpWhenTheServerAsksForTooMuch) {
  std::mt19937 random;
  EXPECT_EQ(NextRetry({}, Repeatable::kAlways, Busy(60000), 1, kForever, random), std::nullopt);
}

TEST(NextRetry, GrowsUpToALimitAndThenStops) {
  RetryPolicy policy;
  policy.max_attempts = 10;
  policy.jitter = 0;
  std::mt19937 random;
  const auto delay = [&](int attempts_made) {
    return NextRetry(policy, Repeatable::kAlways, kLost, attempts_made, kForever, random);
  };
  EXPECT_EQ(delay(1), absl::Milliseconds(100));
  EXPECT_EQ(delay(2), absl::Milliseconds(200));
  EXPECT_EQ(delay(5), absl::Milliseconds(1600));
  EXPECT_EQ(delay(9), absl::Seconds(2));
  EXPECT_EQ(delay(10), std::nullopt);
}

TEST(NextRetry, DoesNotWaitBeyondTheDeadline) {
  std::mt19937 random;
  EXPECT_EQ(NextRetry({}, Repeatable::kAlways, Busy(5000), 1, absl::Seconds(4), random),
            std::nullopt);
  EXPECT_EQ(NextRetry({}, Repeatable::kAlways, kLost, 1, -absl::Seconds(1), random), std::nullopt);
}

TEST(NextRetry, JitterSpreadsClients) {
  std::mt19937 random;
  absl::Duration least = kForever, most;
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration delay = *NextRetry({}, Repeatable::kAlways, kLost, 1, kForever, random);
    least = std::min(least, delay);
    most = std::max(most, delay);
  }
  EXPECT_GE(least, absl::Milliseconds(80));
  EXPECT_LE(most, absl::Milliseconds(100));
  EXPECT_GT(most - least, absl::Milliseconds(15));
}

RetryPolicy Fast() {
  RetryPolicy policy;
  policy.first_delay = absl::Milliseconds(1);
  return policy;
}

TEST(RunWithRetries, StopsAtTheFirstSuccess) {
  int attempts = 0;
  EXPECT_TRUE(RunWithRetries(Fast(), Repeatable::kAlways, {}, [&](grpc::ClientContext&, bool*) {
                return ++attempts == 3 ? absl::OkStatus() : kLost;
              }).ok());
  EXPECT_EQ(attempts, 3);
}

TEST(RunWithRetries, IsBoundedAndAnswersWithTheLastFailure) {
  int attempts = 0;
  const absl::Status status =
      RunWithRetries(Fast(), Repeatable::kAlways, {}, [&](grpc::ClientContext&, bool*) {
        return absl::UnavailableError(std::to_string(++attempts));
      });
  EXPECT_EQ(status.message(), "4");
}

TEST(RunWithRetries, NeverAfterTheFirstMessageOfAStream) {
  int attempts = 0;
  const absl::Status status =
      RunWithRetries(Fast(), Repeatable::kAlways, {}, [&](grpc::ClientContext&, bool* begun) {
        ++attempts;
        *begun = true;
        return kLost;
      });
  EXPECT_EQ(attempts, 1);
  EXPECT_EQ(status, kLost);
}

TEST(RunWithRetries, ACancelledCallIsNotBegunAndItsWaitEnds) {
  CallOptions options;
  options.cancellation = std::make_shared<Cancellation>();
  int attempts = 0;
  // The wait would be 20 s; Cancel() during the attempt ends it at once.
  const absl::Status status =
      RunWithRetries({}, Repeatable::kAlways, options, [&](grpc::ClientContext&, bool*) {
        ++attempts;
        options.cancellation->Cancel();
        return Busy(20000);
      });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_TRUE(absl::IsCancelled(
      RunWithRetries({}, Repeatable::kAlways, options, [&](grpc::ClientContext&, bool*) {
        ++attempts;
        return absl::OkStatus();
      })));
  EXPECT_EQ(attempts, 1);
}

}  // namespace
}  // namespace dreamstate::client
