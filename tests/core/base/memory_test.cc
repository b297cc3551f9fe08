#include "core/base/memory.h"

#include "gtest/gtest.h"

namespace dreamstate {
namespace {

constexpr char kMeminfo[] =
    "MemTotal:       24683520 kB\nMemFree:        16886784 kB\nMemAvailable:   1000 kB\n";

TEST(AvailableMemory, IsTheLeastThatAnyoneLeaves) {
  const MemoryFiles::Group wide = {"9000000\n", "1000000\n", "anon 5\ninactive_file 0\n"};
  const MemoryFiles::Group tight = {"900000\n", "800000\n", "inactive_file 50000\n"};
  const MemoryFiles::Group open = {"max\n", "123\n", ""};
  const struct {
    MemoryFiles files;
    std::optional<int64_t> bytes;
  } cases[] = {
      {{kMeminfo, {}}, 1'024'000},
      {{kMeminfo, {open}}, 1'024'000},
      {{kMeminfo, {wide}}, 1'024'000},
      {{kMeminfo, {tight}}, 150'000},
      {{kMeminfo, {wide, tight, open}}, 150'000},
      {{"", {wide}}, 8'000'000},
      {{"", {}}, std::nullopt},
      {{"", {open}}, std::nullopt},
      {{"nonsense", {{"x", "y", "z"}}}, std::nullopt},
      {{"MemAvailable: many kB", {}}, std::nullopt},
      {{"MemAvailable:", {}}, std::nullopt},
      {{"MemAvailable: -5 kB", {}}, std::nullopt},
      {{"MemAvailable: 9223372036854775807 kB", {tight}}, 150'000},
      // Over its limit already, or with more cache than use.
      {{"", {{"100", "200", ""}}}, 0},
      {{"", {{"100", "20", "inactive_file 50"}}}, 100},
      // Pages of files that were used lately are cache as well.
      {{"", {{"1000", "900", "active_file 300\n"}}}, 400},
      {{"", {{"1000", "900", "inactive_file 100\nactive_file 300\n"}}}, 500},
      {{"", {{"1000", "900", "inactive_file 9223372036854775807\nactive_file 300\n"}}}, 1000},
      // Version 1 counts the groups below in lines of their own.
      {{"", {{"1000", "900", "inactive_file 1\ntotal_inactive_file 500\n"}}}, 600},
      {{"", {{"1000", "900", "active_file 1\ntotal_active_file 500\ntotal_inactive_file 200\n"}}},
       800},
      // Version 1 without a limit says so with a number that is larger than any memory.
      {{kMeminfo, {{"9223372036854771712", "900", ""}}}, 1'024'000},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(AvailableMemoryBytes(c.files), c.bytes) << c.files.meminfo;
  }
}

TEST(AvailableMemory, IsKnownHere) {
  const std::optional<int64_t> bytes = AvailableMemoryBytes(ReadMemoryFiles());
  ASSERT_TRUE(bytes.has_value());
  EXPECT_GT(*bytes, 0);
}

TEST(ShowBytes, HasThreeDigitsAndAUnit) {
  EXPECT_EQ(ShowBytes(0), "0 bytes");
  EXPECT_EQ(ShowBytes(999), "999 bytes");
  EXPECT_EQ(ShowBytes(1000), "1.00 KB");
  EXPECT_EQ(ShowBytes(382'169'088), "382 MB");
  EXPECT_EQ(ShowBytes(14'399'864'832), "14.4 GB");
  EXPECT_EQ(ShowBytes(26'540'597'248), "26.5 GB");
  EXPECT_EQ(ShowBytes(999'600'000), "1.00 GB");
  EXPECT_EQ(ShowBytes(INT64_MAX), "9223372 TB");
}

}  // namespace
}  // namespace dreamstate
