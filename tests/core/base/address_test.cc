#include "core/base/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace dreamstate {
namespace {

TEST(AddressTest, TakesHostAndPort) {
  for (const char* address : {"127.0.0.1:0", "[::1]:9464", "localhost:65535"}) {
    EXPECT_TRUE(CheckAddress("--address", address).ok()) << address;
  }
}

TEST(AddressTest, RefusesEverythingElseWithTheFlagsName) {
  for (const char* address :
       {"", "x", "42100", "+42100", ":42100", "host:", "host:65536", "host:-1", "host:80,81",
        "host:80,other:81", "http://host", "host:8 0"}) {
    const absl::Status status = CheckAddress("--address", address);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_THAT(std::string(status.message()),
                ::testing::StartsWith("--address: expected host:port"));
  }
}

}  // namespace
}  // namespace dreamstate
