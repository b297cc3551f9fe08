#include <cstring>
#include <numeric>
#include <random>

#include "absl/strings/match.h"
#include "core/tensors/import.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::tensors {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kModels = DREAMSTATE_TEST_DATA "/models/";

// Builds a ggmf file.
class Builder {
 public:
  Builder& Int(int32_t value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Builder& Header(int32_t vocab = 5, int32_t width = 4, int32_t layers = 1, int32_t dtype = 0) {
    return Int(0x67676d66).Int(101).Int(vocab).Int(width).Int(layers).Int(dtype);
  }
  // Row-major shape; values count up from `first`.
  Builder& Add(const std::string& name, const std::vector<int32_t>& shape, float first = 0) {
    Int(static_cast<int32_t>(shape.size())).Int(static_cast<int32_t>(name.size())).Int(0);
    size_t elements = 1;
    for (auto size = shape.rbegin(); size != shape.rend(); ++size) {
      Int(*size);
      elements *= static_cast<size_t>(*size);
    }
    bytes += name;
    std::vector<float> values(elements);
    std::iota(values.begin(), values.end(), first);
    bytes.append(reinterpret_cast<const char*>(values.data()), elements * sizeof(float));
    return *this;
  }
  // The least that a model must have.
  Builder& AddRequired() { return Add("emb.weight", {5, 4}).Add("blocks.0.ln1.weight", {4}); }

  std::string bytes;
};

absl::StatusOr<TensorSet> Read(const std::string& bytes) {
  // A copy that the set owns: reading past its end is seen by the address sanitizer.
  const auto copy = std::make_shared<const std::string>(bytes);
  return ParseGgmf("model.bin", std::as_bytes(std::span(*copy)), copy);
}

std::vector<float> Values(const TensorSet& set, std::string_view name) {
  const Tensor* tensor = set.Find(name);
  if (tensor == nullptr) return {};
  std::vector<float> values(static_cast<size_t>(tensor->elements()));
  EXPECT_TRUE(ToFloat(*tensor, values).ok());
  return values;
}

TEST(Ggmf, FusedMixesComeApartInTheirOrder) {
  const auto set =
      Read(Builder().Header().AddRequired().Add("blocks.0.att.x_rwkvag", {6, 1, 4}).bytes);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->Find("blocks.0.att.x_rwkvag"), nullptr);
  float first = 0;
  for (const char* name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"}) {
    EXPECT_THAT(Values(*set, std::string("blocks.0.att.") + name),
                ElementsAre(first, first + 1, first + 2, first + 3));
    EXPECT_EQ(set->Find(std::string("blocks.0.att.") + name)->shape, Shape{4});
    first += 4;
  }
}

TEST(Ggmf, LowRankMatricesAreTurnedBack) {
  const auto set = Read(Builder()
                            .Header()
                            .AddRequired()
                            .Add("blocks.0.att.w1", {2, 4})
                            .Add("blocks.0.att.w2", {4, 2})
                            .Add("blocks.0.att.key.weight", {4, 4})
                            .bytes);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->Find("blocks.0.att.w1")->shape, (Shape{4, 2}));
  EXPECT_THAT(Values(*set, "blocks.0.att.w1"), ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
  EXPECT_EQ(set->Find("blocks.0.att.w2")->shape, (Shape{2, 4}));
  EXPECT_THAT(Values(*set, "blocks.0.att.w2"), ElementsAre(0, 2, 4, 6, 1, 3, 5, 7));
  EXPECT_EQ(Values(*set, "blocks.0.att.key.weight")[1], 1.0f);
}

TEST(Ggmf, ReadsTheTrainedModels) {
  for (const char* name : {"tiny-rwkv-7v0-834K-FP32.bin", "tiny-rwkv-7v0-834K-FP16.bin"}) {
    const auto set = ReadGgmf(kModels + name);
    ASSERT_TRUE(set.ok()) << set.status();
    // 339 in the file; each of 12 fused mixes gives 6.
    EXPECT_EQ(set->tensors().size(), 339u + 12 * 5);
    EXPECT_EQ(set->Find("blocks.3.att.w1")->shape, (Shape{64, 32}));
    EXPECT_EQ(set->Find("blocks.3.att.w2")->shape, (Shape{32, 64}));
    EXPECT_EQ(set->Find("blocks.3.att.w0")->shape, (Shape{64}));
    EXPECT_EQ(set->Find("blocks.3.att.x_g")->shape, (Shape{64}));
    EXPECT_EQ(set->Find("blocks.3.att.r_k")->shape, (Shape{1, 64}));
    EXPECT_EQ(set->Find("blocks.3.ffn.x_k")->shape, (Shape{64}));
    EXPECT_EQ(set->Find("blocks.3.ffn.key.weight")->shape, (Shape{256, 64}));
    EXPECT_EQ(set->Find("emb.weight")->shape, (Shape{256, 64}));
    EXPECT_EQ(set->Find("blocks.0.att.v0"), nullptr);
    EXPECT_NE(set->Find("blocks.1.att.v0"), nullptr);
    EXPECT_TRUE(CheckFinite(*set).ok());
  }
}

// Made from the same files by another program; states name their backbone by it, so it must never
// change.
TEST(Ggmf, FingerprintsOfTheTrainedModelsStayTheSame) {
  EXPECT_EQ(Fingerprint(*ReadGgmf(kModels + "tiny-rwkv-7v0-834K-FP32.bin")),
            "6915bd6ce8a0e6f214c704417392708415bf4ce59e2d6ac893941558f2a8ca6d");
  EXPECT_EQ(Fingerprint(*ReadGgmf(kModels + "tiny-rwkv-7v0-834K-FP16.bin")),
            "856e89cd3263c00780a30f3b1f38ed1cb6abb9d1bd71ca623092a262432205f6");
}

struct Case {
  std::string file;
  std::string says;
};

TEST(Ggmf, HostileFilesAreRefusedWithTheFault) {
  const auto tensor = [](int32_t rank, int32_t name_bytes, int32_t dtype) {
    return Builder().Header().AddRequired().Int(rank).Int(name_bytes).Int(dtype);
  };
  const Case cases[] = {
      {"", "magic: expected 4 bytes at offset 0, found 0 (truncated)"},
      {Builder().Int(0x46554747).bytes, "magic: expected ggmf"},
      {Builder().Int(0x67676d66).Int(100).bytes, "version: expected 101, found 100"},
      {Builder().Header(0).bytes, "n_vocab: expected a positive number, found 0"},
      {Builder().Header(5, -4).bytes, "n_embd: expected a positive number, found -4"},
      {Builder().Header(5, 4, -1).bytes, "n_layer: expected a positive number, found -1"},
      {Builder().Header(5, 4, 1, 2).bytes, "found Q4_0; quantised files cannot be imported"},
      {Builder().Header(5, 4, 1, 9).bytes, "found Q8_0"},
      {Builder().Header(5, 4, 1, 77).bytes, "found 77"},
      {Builder().Header().bytes, "emb.weight: expected [5, 4], found no such tensor"},
      {Builder().Header(6).AddRequired().bytes, "emb.weight: expected [6, 4], found f32 [5, 4]"},
      {Builder().Header(5, 4, 2).AddRequired().bytes, "blocks.1.ln1.weight: expected [4]"},
      {Builder().Header().AddRequired().Add("blocks.1.ln1.weight", {4}).bytes,
       "expected 1 layers, found more"},
      {Builder().Header().AddRequired().Add("emb.weight", {5, 4}).bytes,
       "emb.weight: expected once, found twice"},
      {tensor(0, 1, 0).bytes, "1 to 8 dimensions, found 0"},
      {tensor(-1, 1, 0).bytes, "1 to 8 dimensions, found -1"},
      {tensor(0x7fffffff, 1, 0).bytes, "1 to 8 dimensions, found 2147483647"},
      {tensor(1, 0, 0).bytes, "name of 1 to 1024 bytes, found 0"},
      {tensor(1, -5, 0).bytes, "name of 1 to 1024 bytes, found -5"},
      {tensor(1, 0x7fffffff, 0).bytes, "name of 1 to 1024 bytes, found 2147483647"},
      {tensor(1, 4, 0).Int(0).bytes, "sizes of at least 1, found 0"},
      {tensor(1, 4, 0).Int(-3).bytes, "sizes of at least 1, found -3"},
      {tensor(1, 4, 0).Int(3).bytes, "expected 4 bytes"},
      {tensor(1, 4, 3).Int(3).bytes + "name", "name: expected dtype f32 or f16, found Q4_1"},
      {tensor(1, 4, -1).Int(3).bytes + "name", "name: expected dtype 0 (f32) or 1 (f16), found -1"},
      {tensor(1, 4, 0).Int(3).bytes + "na\x01"
                                      "e",
       "printable"},
      {tensor(1, 4, 0).Int(0x7fffffff).bytes + "name", "name: expected 8589934588 bytes"},
      {tensor(3, 4, 0).Int(0x7fffffff).Int(0x7fffffff).Int(0x7fffffff).bytes + "name",
       "name: expected a size below 2^63"},
      {Builder().Header().AddRequired().Add("blocks.0.att.x_rwkvag", {5, 1, 4}).bytes,
       "blocks.0.att.x_rwkvag: expected [6, 1, 4], found [5, 1, 4]"},
      {Builder().Header().AddRequired().Add("blocks.0.att.w1", {4}).bytes,
       "blocks.0.att.w1: expected a matrix, found [4]"},
  };
  for (const Case& c : cases) {
    const auto set = Read(c.file);
    ASSERT_FALSE(set.ok()) << c.says;
    EXPECT_EQ(set.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(set.status().message()), HasSubstr(c.says));
    EXPECT_THAT(std::string(set.status().message()), HasSubstr("model.bin"));
  }
}

std::string Sample() {
  return Builder()
      .Header()
      .AddRequired()
      .Add("blocks.0.att.x_rwkvag", {6, 1, 4})
      .Add("blocks.0.att.w1", {2, 4})
      .bytes;
}

TEST(Ggmf, TruncationAnywhereIsRefusedOrLacksWholeTensors) {
  const std::string file = Sample();
  const size_t whole = Read(file)->tensors().size();
  for (size_t size = 0; size < file.size(); ++size) {
    const auto set = Read(file.substr(0, size));
    // Nothing in the format says how many tensors there are: a cut between two of them shows only
    // later, by what is missing.
    if (set.ok()) {
      EXPECT_LT(set->tensors().size(), whole) << size;
    }
  }
}

TEST(Ggmf, DamagedBytesNeverCrash) {
  const std::string file = Sample();
  std::mt19937 bits(2);
  for (int round = 0; round < 5000; ++round) {
    std::string damaged = file;
    for (uint32_t i = 1 + bits() % 3; i-- > 0;) {
      damaged[bits() % damaged.size()] = static_cast<char>(bits());
    }
    const auto set = Read(damaged);
    if (set.ok()) {
      EXPECT_EQ(Fingerprint(*set).size(), 64u);
    }
  }
}

}  // namespace
}  // namespace dreamstate::tensors
