// Hostile safetensors files: each one is refused with an error that names the file and the fault,
// and nothing crashes.
#include <malloc.h>

#include <cstdint>
#include <random>
#include <string>

#include "core/tensors/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::tensors {
namespace {

using ::testing::HasSubstr;

std::string WithLength(uint64_t length, std::string_view rest) {
  std::string file;
  for (int i = 0; i < 8; ++i) file.push_back(static_cast<char>(length >> (8 * i)));
  return file.append(rest);
}

std::string File(std::string_view header, size_t data_bytes) {
  return WithLength(header.size(), header).append(data_bytes, 'd');
}

absl::StatusOr<TensorSet> Parse(const std::string& file) {
  return ParseSafetensors("bad.safetensors", std::as_bytes(std::span(file)), nullptr);
}

struct Case {
  std::string file;
  std::string says;
};

void ExpectRefused(const Case& c) {
  const auto set = Parse(c.file);
  ASSERT_FALSE(set.ok()) << c.says;
  const std::string message(set.status().message());
  EXPECT_EQ(set.status().code(), absl::StatusCode::kInvalidArgument) << message;
  EXPECT_THAT(message, HasSubstr("bad.safetensors"));
  EXPECT_THAT(message, HasSubstr(c.says));
  EXPECT_LT(message.size(), 2000u);
}

TEST(SafetensorsCorruption, OfTheLengthIsRefused) {
  const Case cases[] = {
      {"", "expected at least 8 bytes, found 0"},
      {"\x02\x01", "expected at least 8 bytes, found 2"},
      {WithLength(0, ""), "expected JSON"},
      {WithLength(2, ""), "expected 2 bytes, found 0"},
      {WithLength(3, "{}"), "expected 3 bytes, found 2"},
      {WithLength(100'000'000, "{}"), "truncated"},
      {WithLength(100'000'001, "{}"), "at most 100000000"},
      {WithLength(UINT64_MAX, "{}"), "at most 100000000"},
      {WithLength(UINT64_MAX - 7, "{}"), "at most 100000000"},
      {WithLength(uint64_t{1} << 63, "{}"), "at most 100000000"},
  };
  for (const Case& c : cases) ExpectRefused(c);
}

TEST(SafetensorsCorruption, OfTheJsonIsRefused) {
  const Case cases[] = {
      {File(" {}", 0), "begins with {"},
      {File("\xEF\xBB\xBF{}", 0), "begins with {"},
      {File("[]", 0), "begins with {"},
      {File("null", 0), "begins with {"},
      {File("{", 0), "syntax error"},
      {File("{}x", 0), "syntax error"},
      {File("{}{}", 0), "syntax error"},
      {File("{\"a\"", 0), "syntax error"},
      {File("{\"a\":}", 0), "syntax error"},
      {File("{\"\xff\":{}}", 0), "syntax error"},
      {File("{\"a\":NaN}", 0), "syntax error"},
      {File("{\"a\":1e999}", 0), "syntax error"},
      {File(std::string("{\0}", 3), 0), "found a NUL at byte 1"},
      {File(std::string("{}\0 {", 5), 0), "found a NUL at byte 2"},
      {File("{\"__metadata__\":1}", 0), "__metadata__ to be an object, found 1"},
      {File("{\"__metadata__\":[]}", 0), "found an array"},
      {File("{\"__metadata__\":{\"a\":1}}", 0), "__metadata__ of texts, found 1"},
      {File("{\"__metadata__\":{\"a\":{}}}", 0), "__metadata__ of texts, found an object"},
      {File("{\"__metadata__\":{\"a\":null}}", 0), "__metadata__ of texts, found null"},
      {File("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0), "\"a\": expected once"},
      {File("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "__metadata__: expected once"},
  };
  for (const Case& c : cases) ExpectRefused(c);
}

TEST(SafetensorsCorruption, OfATensorsEntryIsRefused) {
  const std::string f32 = "\"dtype\":\"F32\"", shape = "\"shape\":[2]",
                    offsets = "\"data_offsets\":[0,8]";
  const auto entry = [](const std::string& a, const std::string& b, const std::string& c) {
    return File(absl::StrCat("{\"w\":{", a, ",", b, ",", c, "}}"), 8);
  };
  ASSERT_TRUE(Parse(entry(f32, shape, offsets)).ok());
  ASSERT_TRUE(Parse(entry(offsets, f32, shape)).ok());
  const Case cases[] = {
      {File("{\"w\":1}", 8), "tensor \"w\": expected an object, found 1"},
      {File("{\"w\":null}", 8), "found null"},
      {File("{\"w\":true}", 8), "found a boolean"},
      {File("{\"w\":[]}", 8), "found an array"},
      {File("{\"w\":{}}", 8), "found no dtype"},
      {File(absl::StrCat("{\"w\":{", f32, ",", offsets, "}}"), 8), "found no shape"},
      {File(absl::StrCat("{\"w\":{", f32, ",", shape, "}}"), 8), "found no data_offsets"},
      {entry("\"dtype\":\"F31\"", shape, offsets), "found \"F31\""},
      {entry("\"dtype\":\"f32\"", shape, offsets), "expected one of F64, F32"},
      {entry("\"dtype\":\"F8_E4M3\"", shape, offsets), "F8_E4M3"},
      {entry(absl::StrCat("\"dtype\":\"", std::string(5000, 'F'), "\""), shape, offsets), "…"},
      {entry("\"dtype\":4", shape, offsets), "dtype to be a text, found 4"},
      {entry("\"dtype\":{}", shape, offsets), "dtype to be a text, found an object"},
      {entry(f32, "\"shape\":2", offsets), "shape to be an array, found 2"},
      {entry(f32, "\"shape\":[-2]", offsets), "non-negative integers, found -2"},
      {entry(f32, "\"shape\":[2.0]", offsets), "non-negative integers, found \"2.0\""},
      {entry(f32, "\"shape\":[\"2\"]", offsets), "non-negative integers, found \"2\""},
      {entry(f32, "\"shape\":[[2]]", offsets), "non-negative integers, found an array"},
      {entry(f32, "\"shape\":[9223372036854775808]", offsets), "9223372036854775808"},
      {entry(f32, "\"shape\":[99999999999999999999]", offsets), "non-negative integers"},
      {entry(f32, "\"shape\":[4611686018427387904,4]", offsets), "below 2^63"},
      {entry(f32, "\"shape\":[4294967296,4294967296]", offsets), "below 2^63"},
      {entry(f32, "\"shape\":[1,1,1,1,1,1,1,1,2]", offsets), "at most 8 dimensions"},
      {entry(f32, "\"shape\":[3]", offsets), "expected 12 bytes for f32 [3], found 8"},
      {entry(f32, "\"shape\":[]", offsets), "expected 4 bytes for f32 []"},
      {entry(f32, "\"shape\":[0]", offsets), "expected 0 bytes for f32 [0]"},
      {entry(f32, shape, "\"data_offsets\":[0]"), "expected 2 numbers, found 1"},
      {entry(f32, shape, "\"data_offsets\":[]"), "expected 2 numbers, found 0"},
      {entry(f32, shape, "\"data_offsets\":[0,8,8]"), "expected 2 numbers, found more"},
      {entry(f32, shape, "\"data_offsets\":[8,0]"), "found [8, 0]"},
      {entry(f32, shape, "\"data_offsets\":[-8,0]"), "non-negative integers, found -8"},
      {entry(f32, shape, "\"data_offsets\":[0,16]"), "within 8 bytes of data, found [0, 16]"},
      {entry(f32, shape, "\"data_offsets\":[18446744073709551608,18446744073709551615]"),
       "within 8 bytes of data"},
      {entry(f32, shape, "\"data_offsets\":{}"), "data_offsets to be an array, found an object"},
      {File(absl::StrCat("{\"w\":{", f32, ",", f32, ",", shape, ",", offsets, "}}"), 8),
       "dtype: expected once"},
      {File(absl::StrCat("{\"w\":{", f32, ",", shape, ",", offsets, ",\"extra\":1}}"), 8),
       "found \"extra\""},
      {File(absl::StrCat("{\"\":{", f32, ",", shape, ",", offsets, "}}"), 8),
       "1 to 1024 bytes, found 0"},
      {File(absl::StrCat("{\"", std::string(1025, 'n'), "\":{}}"), 8),
       "at most 1024 bytes, found 1025"},
  };
  for (const Case& c : cases) ExpectRefused(c);
}

std::string Entry(const std::string& name, int begin, int end) {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"U8\",\"shape\":[", end - begin,
                      "],\"data_offsets\":[", begin, ",", end, "]}");
}

TEST(SafetensorsCorruption, OfTheLayoutIsRefused) {
  ASSERT_TRUE(Parse(File(absl::StrCat("{", Entry("b", 4, 8), ",", Entry("a", 0, 4), "}"), 8)).ok());
  ASSERT_TRUE(Parse(File(absl::StrCat("{", Entry("b", 4, 4), ",", Entry("a", 0, 4), "}"), 4)).ok());
  const Case cases[] = {
      {File(absl::StrCat("{", Entry("a", 0, 4), ",", Entry("a", 4, 8), "}"), 8),
       "a: expected once"},
      {File(absl::StrCat("{", Entry("a", 0, 5), ",", Entry("b", 4, 8), "}"), 8), "overlap"},
      {File(absl::StrCat("{", Entry("a", 0, 8), ",", Entry("b", 0, 8), "}"), 8), "overlap"},
      {File(absl::StrCat("{", Entry("a", 0, 3), ",", Entry("b", 4, 8), "}"), 8), "hole"},
      {File(absl::StrCat("{", Entry("a", 1, 8), "}"), 8), "hole"},
      {File(absl::StrCat("{", Entry("a", 0, 4), "}"), 8), "data: expected 4 bytes, found 8"},
      {File("{}", 1), "data: expected 0 bytes, found 1"},
      {File(absl::StrCat("{", Entry("a", 0, 8), "}"), 7), "within 7 bytes of data"},
  };
  for (const Case& c : cases) ExpectRefused(c);
}

TEST(SafetensorsCorruption, DeepNestingIsRefusedAtOnce) {
  const std::string deep = std::string(1'000'000, '[');
  ExpectRefused({File("{\"a\":" + deep, 0), "found an array"});
  std::string objects;
  for (int i = 0; i < 200'000; ++i) objects += "{\"a\":";
  ExpectRefused({File(objects, 0), "found \"a\""});
}

// A header may claim much; what is allocated stays in proportion to what is there.
TEST(SafetensorsCorruption, MemoryIsBoundedByTheFile) {
  std::string header = "{";
  for (int i = 0; i < 20'000; ++i) absl::StrAppend(&header, Entry(absl::StrCat("t", i), 0, 0), ",");
  header.back() = '}';
  const std::string file = File(header, 0);
  const auto before = mallinfo2().uordblks;
  const auto set = Parse(file);
  const auto after = mallinfo2().uordblks;
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->tensors().size(), 20'000u);
  EXPECT_LT(after - before, 8 * file.size());
}

std::string Sample() {
  const std::string data(64, 'd');
  const std::vector<Tensor> tensors = {{.name = "a",
                                        .dtype = DType::kF32,
                                        .shape = {2, 4},
                                        .data = std::as_bytes(std::span(data)).first(32)},
                                       {.name = "b",
                                        .dtype = DType::kI8,
                                        .shape = {5},
                                        .data = std::as_bytes(std::span(data)).first(5)},
                                       {.name = "c",
                                        .dtype = DType::kF64,
                                        .shape = {},
                                        .data = std::as_bytes(std::span(data)).first(8)}};
  return *SerializeSafetensors(tensors, {{"key", "value"}});
}

TEST(SafetensorsCorruption, TruncationAnywhereIsRefused) {
  const std::string file = Sample();
  ASSERT_TRUE(Parse(file).ok());
  for (size_t size = 0; size < file.size(); ++size) {
    // A copy of its own: reading past the end is seen by the address sanitizer.
    const std::string cut(file, 0, size);
    EXPECT_FALSE(Parse(cut).ok()) << size;
  }
  EXPECT_FALSE(Parse(file + "x").ok());
}

TEST(SafetensorsCorruption, DamagedBytesAreRefusedOrGiveAConsistentSet) {
  const std::string file = Sample();
  std::mt19937 bits(1);
  for (int round = 0; round < 20'000; ++round) {
    std::string damaged = file;
    for (uint32_t i = 1 + bits() % 4; i-- > 0;) {
      damaged[bits() % damaged.size()] =
          static_cast<char>(bits() % 2 ? bits() : "0129[]{},:\"-"[bits() % 12]);
    }
    const auto set = Parse(damaged);
    if (!set.ok()) continue;
    size_t bytes = 0;
    for (const Tensor& tensor : set->tensors()) {
      EXPECT_EQ(TensorBytes(tensor.dtype, tensor.shape), tensor.data.size());
      bytes += tensor.data.size();
    }
    EXPECT_LE(bytes, file.size());
    EXPECT_EQ(Fingerprint(*set).size(), 64u);  // touches every byte
  }
}

}  // namespace
}  // namespace dreamstate::tensors
