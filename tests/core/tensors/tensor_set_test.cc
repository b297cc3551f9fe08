#include "core/tensors/tensor_set.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::tensors {
namespace {

using ::testing::HasSubstr;

// Bytes at an odd address, as in a file.
class Misaligned {
 public:
  template <typename T>
  explicit Misaligned(const std::vector<T>& values) : bytes_(1 + values.size() * sizeof(T)) {
    if (!values.empty()) std::memcpy(bytes_.data() + 1, values.data(), bytes_.size() - 1);
  }
  std::span<const std::byte> bytes() const { return std::span(bytes_).subspan(1); }

 private:
  std::vector<std::byte> bytes_;
};

Tensor MakeTensor(std::string name, DType dtype, Shape shape, std::span<const std::byte> data) {
  return {.name = std::move(name), .dtype = dtype, .shape = std::move(shape), .data = data};
}

TensorSet MakeSet(std::vector<Tensor> tensors) {
  auto set = TensorSet::Make("model.safetensors", std::move(tensors), {}, nullptr);
  EXPECT_TRUE(set.ok()) << set.status();
  return *std::move(set);
}

TEST(TensorSet, SortsAndFindsByName) {
  const Misaligned data(std::vector<float>{1, 2});
  const TensorSet set = MakeSet({MakeTensor("b", DType::kF32, {2}, data.bytes()),
                                 MakeTensor("a", DType::kF32, {1, 2}, data.bytes()),
                                 MakeTensor("ab", DType::kF16, {2, 2}, data.bytes())});
  ASSERT_EQ(set.tensors().size(), 3u);
  EXPECT_EQ(set.tensors()[1].name, "ab");
  EXPECT_EQ(set.Find("b")->shape, Shape{2});
  EXPECT_EQ(set.Find("aa"), nullptr);
  EXPECT_EQ(set.Find("c"), nullptr);
  EXPECT_EQ(set.Find("ab")->elements(), 4);
}

TEST(TensorSet, RefusesTwoOfOneName) {
  const auto set = TensorSet::Make(
      "f", {MakeTensor("x", DType::kF32, {0}, {}), MakeTensor("x", DType::kF32, {0}, {})}, {},
      nullptr);
  EXPECT_EQ(set.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(set.status().message(), "x: expected once, found twice (f)");
}

TEST(TensorSet, RefusesDataThatDoesNotFitItsShape) {
  const Misaligned data(std::vector<float>{1, 2});
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  for (const Shape& shape : {Shape{3}, Shape{1}, Shape{-2}, Shape{-1, -2}, Shape{kHuge, 2},
                             Shape{kHuge / 4 + 1}, Shape{0, 2}}) {
    const auto set =
        TensorSet::Make("f", {MakeTensor("x", DType::kF32, shape, data.bytes())}, {}, nullptr);
    EXPECT_EQ(set.status().code(), absl::StatusCode::kInvalidArgument) << ShapeString(shape);
    EXPECT_THAT(std::string(set.status().message()), HasSubstr("found 8 (f)"));
  }
}

TEST(TensorSet, RefusesAbsurdNamesAndRanks) {
  const Misaligned data(std::vector<float>{1});
  for (const std::string& name : {std::string(), std::string(kMaxTensorNameBytes + 1, 'n')}) {
    EXPECT_FALSE(
        TensorSet::Make("f", {MakeTensor(name, DType::kF32, {1}, data.bytes())}, {}, nullptr).ok());
  }
  EXPECT_FALSE(
      TensorSet::Make("f", {MakeTensor("x", DType::kF32, Shape(9, 1), data.bytes())}, {}, nullptr)
          .ok());
  EXPECT_TRUE(
      TensorSet::Make("f", {MakeTensor("x", DType::kF32, Shape(8, 1), data.bytes())}, {}, nullptr)
          .ok());
}

TEST(TensorSet, RequireSaysWhatAPersonNeeds) {
  const Misaligned data(std::vector<float>{1, 2});
  const TensorSet set =
      MakeSet({MakeTensor("blocks.3.att.key.weight", DType::kF16, {2, 2}, data.bytes())});
  const int64_t any[] = {-1, 2};
  EXPECT_EQ(*set.Require("blocks.3.att.key.weight", any), &set.tensors()[0]);
  const int64_t other[] = {2, 3};
  EXPECT_EQ(set.Require("blocks.3.att.key.weight", other).status().message(),
            "blocks.3.att.key.weight: expected [2, 3], found f16 [2, 2] (model.safetensors)");
  const int64_t longer[] = {-1, 2, 1};
  EXPECT_EQ(set.Require("blocks.3.att.key.weight", longer).status().message(),
            "blocks.3.att.key.weight: expected [any, 2, 1], found f16 [2, 2] (model.safetensors)");
  EXPECT_EQ(set.Require("emb.weight", any).status().message(),
            "emb.weight: expected [any, 2], found no such tensor (model.safetensors)");
}

TEST(ToFloat, IsExactForEveryHalf) {
  std::vector<uint16_t> halves(65536);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  const Misaligned data(halves);
  std::vector<float> out(halves.size());
  ASSERT_TRUE(ToFloat(MakeTensor("x", DType::kF16, {65536}, data.bytes()), out).ok());
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint32_t exponent = (i >> 10) & 31, mantissa = i & 1023;
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(out[i]), mantissa != 0) << i;
      EXPECT_EQ(std::isinf(out[i]), mantissa == 0) << i;
      continue;
    }
    const double magnitude = exponent == 0
                                 ? std::ldexp(mantissa, -24)
                                 : std::ldexp(1024 + mantissa, static_cast<int>(exponent) - 25);
    EXPECT_EQ(std::abs(static_cast<double>(out[i])), magnitude) << i;
    EXPECT_EQ(std::signbit(out[i]), i >= 32768) << i;
  }
}

TEST(ToFloat, ConvertsTheOtherFloats) {
  std::vector<float> out(3);
  const Misaligned doubles(std::vector<double>{0.1, -2.5, 1e300});
  ASSERT_TRUE(ToFloat(MakeTensor("x", DType::kF64, {3}, doubles.bytes()), out).ok());
  EXPECT_EQ(out[0], 0.1f);
  EXPECT_EQ(out[1], -2.5f);
  EXPECT_TRUE(std::isinf(out[2]));
  const Misaligned floats(std::vector<float>{0.1f, -0.0f, 3.0f});
  ASSERT_TRUE(ToFloat(MakeTensor("x", DType::kF32, {3}, floats.bytes()), out).ok());
  EXPECT_EQ(out[0], 0.1f);
  EXPECT_TRUE(std::signbit(out[1]));
  const Misaligned brains(std::vector<uint16_t>{0x3f80, 0xc020, 0x0001});
  ASSERT_TRUE(ToFloat(MakeTensor("x", DType::kBF16, {3}, brains.bytes()), out).ok());
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -2.5f);
  EXPECT_EQ(out[2], std::ldexp(1.0f, -133));
}

TEST(ToFloat, RefusesIntegersAndWrongRoom) {
  const Misaligned data(std::vector<int32_t>{1});
  std::vector<float> out(1);
  EXPECT_EQ(ToFloat(MakeTensor("x", DType::kI32, {1}, data.bytes()), out).message(),
            "x: expected f64, f32, f16 or bf16, found i32");
  EXPECT_FALSE(ToFloat(MakeTensor("x", DType::kF16, {2}, data.bytes()), out).ok());
}

TEST(CheckFinite, NamesTheFirstBadValueOfEveryFloatType) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Misaligned floats(std::vector<float>{1, 2, nan});
  const Misaligned doubles(std::vector<double>{1, 2, -HUGE_VAL});
  const Misaligned halves(std::vector<uint16_t>{0x7bff, 0, 0x7c00});
  const Misaligned brains(std::vector<uint16_t>{0x7f7f, 0, 0xff81});
  const Misaligned integers(std::vector<int32_t>{-1, 0x7f800000, 2});
  for (const auto& [dtype, data] :
       {std::pair(DType::kF32, &floats), std::pair(DType::kF64, &doubles),
        std::pair(DType::kF16, &halves), std::pair(DType::kBF16, &brains)}) {
    const absl::Status status = CheckFinite(MakeSet({MakeTensor("w", dtype, {3}, data->bytes())}));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("w: expected finite values"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("at element 2"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("model.safetensors"));
  }
  EXPECT_TRUE(CheckFinite(MakeSet({MakeTensor("w", DType::kI32, {3}, integers.bytes())})).ok());
}

TEST(Fingerprint, ChangesWithNameDtypeShapeAndEveryByteOnly) {
  const Misaligned data(std::vector<float>{1, 2});
  const Misaligned flipped(std::vector<float>{1, std::nextafter(2.0f, 3.0f)});
  const std::string base = Fingerprint(MakeSet({MakeTensor("a", DType::kF32, {2}, data.bytes()),
                                                MakeTensor("b", DType::kF32, {2}, data.bytes())}));
  EXPECT_EQ(base.size(), 64u);
  EXPECT_EQ(base, Fingerprint(MakeSet({MakeTensor("b", DType::kF32, {2}, data.bytes()),
                                       MakeTensor("a", DType::kF32, {2}, data.bytes())})));
  for (const Tensor& b : {MakeTensor("c", DType::kF32, {2}, data.bytes()),
                          MakeTensor("b", DType::kI32, {2}, data.bytes()),
                          MakeTensor("b", DType::kF32, {1, 2}, data.bytes()),
                          MakeTensor("b", DType::kF32, {2}, flipped.bytes())}) {
    EXPECT_NE(base, Fingerprint(MakeSet({MakeTensor("a", DType::kF32, {2}, data.bytes()), b})));
  }
  // The source and the metadata say nothing about the model.
  const auto other = TensorSet::Make("other",
                                     {MakeTensor("a", DType::kF32, {2}, data.bytes()),
                                      MakeTensor("b", DType::kF32, {2}, data.bytes())},
                                     {{"k", "v"}}, nullptr);
  EXPECT_EQ(base, Fingerprint(*other));
}

TEST(TensorSet, CopiesKeepTheMemoryAlive) {
  auto memory = std::make_shared<std::vector<float>>(std::vector<float>{1, 2});
  const std::weak_ptr<std::vector<float>> watch = memory;
  TensorSet copy;
  {
    const auto set = TensorSet::Make(
        "f", {MakeTensor("x", DType::kF32, {2}, std::as_bytes(std::span(*memory)))}, {}, memory);
    copy = *set;
  }
  memory.reset();
  EXPECT_FALSE(watch.expired());
  copy = TensorSet();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace dreamstate::tensors
