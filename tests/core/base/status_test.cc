#include "core/base/status.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate {
namespace {

using ::testing::HasSubstr;

TEST(FieldError, CarriesThePathInMessageAndDetails) {
  const absl::Status status = FieldError("sampling.top_p", "expected [0, 1], found 3");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "sampling.top_p: expected [0, 1], found 3");
  EXPECT_EQ(DetailsOf(status).field, "sampling.top_p");
}

TEST(FieldError, APrefixLengthensPathAndMessage) {
  const absl::Status status =
      WithFieldPrefix(WithFieldPrefix(FieldError("text", "empty"), "content"), "document");
  EXPECT_EQ(status.message(), "document.content.text: empty");
  EXPECT_EQ(DetailsOf(status).field, "document.content.text");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
}

TEST(FieldError, APrefixLeavesOtherStatusesAlone) {
  const absl::Status other = absl::NotFoundError("no such state");
  EXPECT_EQ(WithFieldPrefix(other, "document"), other);
  EXPECT_TRUE(WithFieldPrefix(absl::OkStatus(), "document").ok());
}

TEST(ErrorDetails, OfEveryKindComeBackWhole) {
  const auto resource = DetailsOf(ResourceError(
      absl::StatusCode::kDataLoss, "state", std::string("states/\xff\0x", 9), "checksum mismatch"));
  ASSERT_TRUE(resource.resource.has_value());
  EXPECT_EQ(resource.resource->type, "state");
  EXPECT_EQ(resource.resource->name, std::string("states/\xff\0x", 9));

  const absl::Status mismatch = FingerprintError("states/1", "aaaa", "bbbb");
  EXPECT_EQ(mismatch.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(mismatch.message()), HasSubstr("aaaa"));
  EXPECT_THAT(std::string(mismatch.message()), HasSubstr("bbbb"));
  const auto precondition = DetailsOf(mismatch).precondition;
  ASSERT_TRUE(precondition.has_value());
  EXPECT_EQ(precondition->subject, "states/1");
  EXPECT_EQ(precondition->expected, "aaaa");
  EXPECT_EQ(precondition->found, "bbbb");

  const auto quota = DetailsOf(QuotaError("queue", "full", absl::Milliseconds(1500)));
  EXPECT_EQ(quota.quota_subject, "queue");
  EXPECT_EQ(quota.retry_after, absl::Milliseconds(1500));
  EXPECT_FALSE(DetailsOf(QuotaError("disk", "full", std::nullopt)).retry_after.has_value());

  const auto unavailable = DetailsOf(UnavailableError("draining", absl::Seconds(2)));
  EXPECT_EQ(unavailable.retry_after, absl::Seconds(2));
}

TEST(ErrorDetails, OfAPlainStatusAreEmpty) {
  const ErrorDetails details = DetailsOf(absl::InternalError("bug"));
  EXPECT_FALSE(details.field.has_value());
  EXPECT_FALSE(details.resource.has_value());
  EXPECT_FALSE(details.precondition.has_value());
  EXPECT_FALSE(details.quota_subject.has_value());
  EXPECT_FALSE(details.retry_after.has_value());
}

absl::StatusOr<int> Half(int number) {
  if (number % 2 != 0) return absl::InvalidArgumentError("odd");
  return number / 2;
}

absl::StatusOr<int> Quarter(int number) {
  DS_ASSIGN_OR_RETURN(const int half, Half(number));
  DS_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

TEST(AssignOrReturn, GivesTheValueOrPassesTheErrorOn) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(6).status().message(), "odd");
  EXPECT_EQ(Quarter(7).status().message(), "odd");
}

}  // namespace
}  // namespace dreamstate
