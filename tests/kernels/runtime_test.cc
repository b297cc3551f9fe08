#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/runtime/aligned.h"
#include "kernels/runtime/arena.h"
#include "kernels/runtime/bf16.h"
#include "kernels/runtime/cpu.h"

namespace dreamstate::kernels {
namespace {

// Sets DREAMSTATE_CPU_ISA and puts everything back.
class CpuTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* value = std::getenv("DREAMSTATE_CPU_ISA");
    had_value_ = value != nullptr;
    if (had_value_) value_ = value;
  }
  void TearDown() override {
    if (had_value_) {
      setenv("DREAMSTATE_CPU_ISA", value_.c_str(), 1);
    } else {
      unsetenv("DREAMSTATE_CPU_ISA");
    }
    SetActiveIsaForTesting(BestIsa());
  }
  static std::string Initialise(const char* name) {
    setenv("DREAMSTATE_CPU_ISA", name, 1);
    return std::string(InitialiseIsa());
  }

 private:
  bool had_value_ = false;
  std::string value_;
};

TEST_F(CpuTest, NamesAndValuesRoundTrip) {
  for (const Isa isa :
       {Isa::kReference, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16, Isa::kAmx}) {
    Isa parsed;
    ASSERT_TRUE(ParseIsa(IsaName(isa), &parsed));
    EXPECT_EQ(parsed, isa);
  }
  Isa parsed;
  for (const char* name : {"", "AVX2", "avx", "avx5120", "amx-int8"})
    EXPECT_FALSE(ParseIsa(name, &parsed)) << name;
}

TEST_F(CpuTest, BestIsaIsNoMoreThanTheCompilerRuntimeSees) {
  if (BestIsa() >= Isa::kAvx2) {
    EXPECT_TRUE(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
  }
  EXPECT_EQ(BestIsa() >= Isa::kAvx512,
            __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"));
  EXPECT_EQ(BestIsa() >= Isa::kAvx512Vnni,
            BestIsa() >= Isa::kAvx512 && __builtin_cpu_supports("avx512vnni"));
  EXPECT_EQ(BestIsa() >= Isa::kAvx512Bf16,
            BestIsa() >= Isa::kAvx512Vnni && __builtin_cpu_supports("avx512bf16"));
}

// What the system says of the processor, which is not where BestIsa has it from: a wrong bit, or
// tiles that the system does not grant, are found out wherever there is the instruction set.
TEST_F(CpuTest, BestIsaIsWhatTheSystemListsOfTheProcessor) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && !line.starts_with("flags")) {
  }
  if (!file) GTEST_SKIP() << "/proc/cpuinfo lists no flags";
  std::istringstream words(line);
  const std::set<std::string> flags{std::istream_iterator<std::string>(words), {}};
  const std::vector<std::vector<std::string>> needs = {
      {"avx2", "fma", "f16c", "popcnt", "sse4_1", "sse4_2"},
      {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
      {"avx512_vnni"},
      {"avx512_bf16"},
      {"amx_tile", "amx_int8", "amx_bf16"}};
  ASSERT_EQ(needs.size() + 1, static_cast<size_t>(kIsaCount));
  int expected = 0;
  for (const std::vector<std::string>& of_one : needs) {
    bool has_all = true;
    for (const std::string& flag : of_one) has_all &= flags.contains(flag);
    if (!has_all) break;
    ++expected;
  }
  EXPECT_EQ(IsaName(BestIsa()), IsaName(static_cast<Isa>(expected))) << line;
}

TEST_F(CpuTest, TheEnvironmentChoosesALesserInstructionSet) {
  EXPECT_EQ(Initialise("reference"), "");
  EXPECT_EQ(ActiveIsa(), Isa::kReference);
  EXPECT_EQ(Initialise(""), "");
  EXPECT_EQ(ActiveIsa(), BestIsa());
}

TEST_F(CpuTest, AnUnknownNameIsRefusedWithWhatWasExpectedAndFound) {
  EXPECT_THAT(Initialise("pentium"),
              testing::AllOf(testing::HasSubstr("DREAMSTATE_CPU_ISA"),
                             testing::HasSubstr("avx512bf16"), testing::HasSubstr("\"pentium\"")));
  EXPECT_THAT(Initialise(std::string(10000, 'x').c_str()), testing::SizeIs(testing::Lt(200)));
}

TEST_F(CpuTest, AnInstructionSetThatTheProcessorLacksIsRefused) {
  if (BestIsa() == Isa::kAmx)
    GTEST_SKIP() << "this processor has every instruction set that the kernels know";
  EXPECT_THAT(Initialise("amx"), testing::HasSubstr("does not support amx"));
}

TEST(Aligned, MemoryIsAlignedAndZeroed) {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{4096}, size_t{5} << 20}) {
    const auto memory = MakeAligned<uint8_t>(bytes);
    EXPECT_EQ(
        reinterpret_cast<uintptr_t>(memory.get()) % (bytes >= (4u << 20) ? 2u << 20 : kAlignment),
        0u);
    for (size_t i = 0; i < bytes; ++i) ASSERT_EQ(memory[i], 0);
  }
}

TEST(Arena, HandsOutZeroedAlignedPiecesUntilItIsFull) {
  constexpr size_t kCapacity = size_t{4} << 20;
  Arena arena(kCapacity - 5);  // rounded up to whole huge pages
  size_t pieces = 0;
  std::byte* last = nullptr;
  while (std::byte* piece = arena.Allocate(100'000)) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(piece) % kAlignment, 0u);
    EXPECT_TRUE(last == nullptr || piece >= last + 100'000);
    for (size_t i = 0; i < 100'000; ++i) ASSERT_EQ(piece[i], std::byte{0});
    std::memset(piece, 1, 100'000);
    last = piece;
    ++pieces;
  }
  EXPECT_EQ(pieces, kCapacity / 100'032);
  EXPECT_LE(arena.used_bytes(), kCapacity);
  EXPECT_NE(arena.Allocate(64), nullptr);  // what is left still serves
}

TEST(Arena, RefusesMoreThanItHoldsAndHoldsNothingByDefault) {
  Arena none;
  EXPECT_EQ(none.Allocate(1), nullptr);
  Arena impossible(std::numeric_limits<size_t>::max() - 1);
  EXPECT_EQ(impossible.Allocate(1), nullptr);
  Arena small(1);
  EXPECT_EQ(small.Allocate(std::numeric_limits<size_t>::max() - 1), nullptr);
}

TEST(Aligned, TooMuchMemoryIsAnErrorAndNoCrash) {
  EXPECT_EQ(AllocateAligned(std::numeric_limits<size_t>::max()), nullptr);
  EXPECT_THROW(MakeAligned<double>(std::numeric_limits<size_t>::max() / 4), std::bad_alloc);
}

TEST(Bf16, EveryValueRoundTrips) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto value = static_cast<Bf16>(bits);
    const float wide = Bf16ToFloat(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(wide))));
    } else {
      ASSERT_EQ(FloatToBf16(wide), value);
    }
  }
}

TEST(Bf16, RoundsToNearestEven) {
  EXPECT_EQ(FloatToBf16(1.0f + 0x1p-8f), FloatToBf16(1.0f));                // a tie, down to even
  EXPECT_EQ(FloatToBf16(1.0f + 3 * 0x1p-8f), FloatToBf16(1.0f + 0x1p-6f));  // a tie, up to even
  EXPECT_EQ(FloatToBf16(1.0f + 0x1.1p-8f), FloatToBf16(1.0f + 0x1p-7f));
  EXPECT_EQ(FloatToBf16(std::numeric_limits<float>::max()), FloatToBf16(INFINITY));
  // A NaN whose payload lies in the low bits only.
  uint32_t bits = 0x7f800001u;
  float nan;
  std::memcpy(&nan, &bits, sizeof nan);
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(nan))));
}

}  // namespace
}  // namespace dreamstate::kernels
