#include "core/tensors/safetensors.h"

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::tensors {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ReadAll;
using testing::TemporaryDirectory;

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

constexpr DType kAll[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                          DType::kI32, DType::kI16, DType::kI8,  DType::kU64,  DType::kU32,
                          DType::kU16, DType::kU8,  DType::kBool};

// A tensor of every dtype, odd shapes, a scalar and an empty one among them.
struct Everything {
  Everything() {
    for (const DType dtype : kAll) {
      Add(std::string("t.") + std::string(DTypeName(dtype)), dtype, {3, 1, 5});
    }
    Add("scalar", DType::kF32, {});
    Add("empty", DType::kF64, {4, 0, 2});
    Add("byte", DType::kU8, {1});
    Add("name with \"quotes\", \\ and é", DType::kI8, {7});
  }
  void Add(const std::string& name, DType dtype, const Shape& shape) {
    std::string data(*TensorBytes(dtype, shape), '\0');
    for (char& byte : data) byte = static_cast<char>(next_ = next_ * 31 + 7);
    contents.push_back(std::make_unique<std::string>(std::move(data)));
    tensors.push_back(
        {.name = name, .dtype = dtype, .shape = shape, .data = Bytes(*contents.back())});
  }
  std::vector<std::unique_ptr<std::string>> contents;
  std::vector<Tensor> tensors;
  std::map<std::string, std::string> metadata = {{"format", "pt"}, {"a \"key\"", "line\nbreak"}};
  unsigned char next_ = 1;
};

void ExpectSame(const Everything& want, const TensorSet& have) {
  ASSERT_EQ(have.tensors().size(), want.tensors.size());
  for (const Tensor& tensor : want.tensors) {
    const Tensor* found = have.Find(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->dtype, tensor.dtype) << tensor.name;
    EXPECT_EQ(found->shape, tensor.shape) << tensor.name;
    EXPECT_EQ(Text(found->data), Text(tensor.data)) << tensor.name;
  }
  EXPECT_EQ(have.metadata(), want.metadata);
}

TEST(Safetensors, EveryDtypeComesBackToTheBit) {
  const Everything everything;
  const auto bytes = SerializeSafetensors(everything.tensors, everything.metadata);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto set = ParseSafetensors("memory", Bytes(*bytes), nullptr);
  ASSERT_TRUE(set.ok()) << set.status();
  ExpectSame(everything, *set);
}

TEST(Safetensors, AFileHasTheSerializedBytesAndIsMappedWhole) {
  TemporaryDirectory directory;
  const Everything everything;
  const std::string path = directory / "model.safetensors";
  ASSERT_TRUE(WriteSafetensors(path, everything.tensors, everything.metadata).ok());
  EXPECT_EQ(ReadAll(path), *SerializeSafetensors(everything.tensors, everything.metadata));
  EXPECT_THAT(directory.Names(), ElementsAre("model.safetensors"));
  const auto set = ReadSafetensors(path);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->source(), path);
  ExpectSame(everything, *set);
}

TEST(Safetensors, DataBeginsAtAMultipleOf64AndFollowsTheOrderOfNames) {
  const Everything everything;
  const std::string bytes = *SerializeSafetensors(everything.tensors, {});
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ((8 + header) % 64, 0u);
  const auto set = ParseSafetensors("memory", Bytes(bytes), nullptr);
  const std::byte* at = Bytes(bytes).data() + 8 + header;
  for (const Tensor& tensor : set->tensors()) {
    EXPECT_EQ(tensor.data.data(), at) << tensor.name;
    at += tensor.data.size();
  }
}

TEST(Safetensors, MisalignedBytesAreRead) {
  const Everything everything;
  const std::string bytes = *SerializeSafetensors(everything.tensors, everything.metadata);
  for (size_t shift = 1; shift < 8; ++shift) {
    const std::string moved = std::string(shift, ' ') + bytes;
    const auto set = ParseSafetensors("memory", Bytes(moved).subspan(shift), nullptr);
    ASSERT_TRUE(set.ok()) << set.status();
    ExpectSame(everything, *set);
    std::vector<float> values(15);
    EXPECT_TRUE(ToFloat(*set->Find("t.f32"), values).ok());
    EXPECT_EQ(std::memcmp(values.data(), set->Find("t.f32")->data.data(), 60), 0);
  }
}

TEST(Safetensors, OneModelHasOneFingerprintThroughAFile) {
  const Everything everything;
  const auto made = TensorSet::Make("made", everything.tensors, {}, nullptr);
  const std::string bytes = *SerializeSafetensors(everything.tensors, everything.metadata);
  EXPECT_EQ(Fingerprint(*ParseSafetensors("memory", Bytes(bytes), nullptr)), Fingerprint(*made));
}

TEST(Safetensors, OfNothingIsReadBack) {
  const std::string bytes = *SerializeSafetensors({}, {});
  const auto set = ParseSafetensors("memory", Bytes(bytes), nullptr);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_TRUE(set->tensors().empty());
}

TEST(Safetensors, WritingRefusesWhatReadingWouldRefuse) {
  const std::string data(4, 'x');
  const Tensor good = {.name = "x", .dtype = DType::kF32, .shape = {1}, .data = Bytes(data)};
  Tensor reserved = good, misfit = good, binary = good;
  reserved.name = "__metadata__";
  misfit.shape = {2};
  binary.name = "\xff";
  for (const std::vector<Tensor>& tensors :
       {std::vector{reserved}, std::vector{misfit}, std::vector{binary}, std::vector{good, good}}) {
    EXPECT_EQ(SerializeSafetensors(tensors, {}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(SerializeSafetensors(std::vector{good}, {{"key", "\xff"}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  TemporaryDirectory directory;
  EXPECT_FALSE(WriteSafetensors(directory / "file", std::vector{misfit}, {}).ok());
  EXPECT_TRUE(directory.Names().empty());
}

TEST(Safetensors, AMissingFileIsNotFound) {
  EXPECT_EQ(ReadSafetensors("/nowhere/model.safetensors").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace dreamstate::tensors
