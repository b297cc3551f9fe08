#include "core/tensors/pth.h"

#include <cstring>

#include "core/base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::tensors {
namespace {

using ::testing::ElementsAre;
using testing::Golden;
using ::testing::HasSubstr;
using testing::ReadAll;
using testing::TemporaryDirectory;
using testing::WriteAll;

const std::string kGolden = DREAMSTATE_TEST_DATA "/golden/";

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<float> Floats(const Tensor* tensor) {
  std::vector<float> values(static_cast<size_t>(tensor->elements()));
  EXPECT_TRUE(ToFloat(*tensor, values).ok());
  return values;
}

std::vector<std::string> Names(const TensorSet& set) {
  std::vector<std::string> names;
  for (const Tensor& tensor : set.tensors()) names.push_back(tensor.name);
  return names;
}

// Views of one storage (one of them transposed), every common dtype, a scalar, an empty tensor.
void ExpectViews(const std::string& file) {
  const auto set = ReadPth(kGolden + file);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_THAT(Names(*set), ElementsAre("a", "a_t", "bf", "empty", "f64", "half", "i64", "scalar"));
  EXPECT_EQ(set->Find("a")->shape, (Shape{3, 4}));
  EXPECT_THAT(Floats(set->Find("a")), ElementsAre(4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  EXPECT_EQ(set->Find("a_t")->shape, (Shape{4, 3}));
  EXPECT_THAT(Floats(set->Find("a_t")), ElementsAre(4, 8, 12, 5, 9, 13, 6, 10, 14, 7, 11, 15));
  for (const auto& [name, dtype] :
       {std::pair("bf", DType::kBF16), std::pair("half", DType::kF16)}) {
    EXPECT_EQ(set->Find(name)->dtype, dtype);
    EXPECT_THAT(Floats(set->Find(name)), ElementsAre(0, 1, 2, 3, 4, 5)) << name;
  }
  EXPECT_EQ(set->Find("f64")->dtype, DType::kF64);
  EXPECT_THAT(Floats(set->Find("f64")), ElementsAre(0, 1, 2));
  EXPECT_EQ(set->Find("i64")->dtype, DType::kI64);
  int64_t integers[3];
  ASSERT_EQ(set->Find("i64")->data.size(), sizeof(integers));
  std::memcpy(integers, set->Find("i64")->data.data(), sizeof(integers));
  EXPECT_THAT(integers, ElementsAre(0, 1, 2));
  EXPECT_EQ(set->Find("scalar")->shape, Shape{});
  EXPECT_THAT(Floats(set->Find("scalar")), ElementsAre(2.5f));
  EXPECT_EQ(set->Find("empty")->shape, (Shape{0, 4}));
  EXPECT_EQ(set->Find("empty")->elements(), 0);
}

TEST(Pth, ReadsViewsAndDTypes) { ExpectViews("pth_views_dtypes.pth"); }

TEST(Pth, ReadsTheFormatBeforePyTorch16) { ExpectViews("pth_legacy_format.pth"); }

TEST(Pth, ReadsAStateDictWithMetadata) {
  const auto set = ReadPth(kGolden + "pth_ordereddict_metadata.pth");
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_THAT(Names(*set), ElementsAre("lin.bias", "lin.weight", "ln.bias", "ln.weight"));
  EXPECT_EQ(set->Find("lin.weight")->shape, (Shape{2, 3}));
  EXPECT_THAT(Floats(set->Find("lin.weight")), ElementsAre(0.5, 1.5, 2.5, 3.5, 4.5, 5.5));
  EXPECT_THAT(Floats(set->Find("ln.bias")), ElementsAre(0.5, 1.5));
}

// What the official trainer writes, against the same weights as raw bytes.
TEST(Pth, ReadsAnOfficialCheckpointToTheBit) {
  const auto set = ReadPth(kGolden + "tiny_rwkv7_bf16.pth");
  ASSERT_TRUE(set.ok()) << set.status();
  const Golden golden(kGolden + "tiny_weights");
  ASSERT_EQ(set->tensors().size(), golden.index().at("tensors").size());
  for (const nlohmann::json& entry : golden.index().at("tensors")) {
    const auto name = entry.at("name").get<std::string>();
    const Tensor* tensor = set->Find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(tensor->dtype, DType::kBF16) << name;
    EXPECT_EQ(tensor->shape, golden.Shape(name)) << name;
    EXPECT_EQ(Text(tensor->data), golden.Bytes(name)) << name;
  }
}

TEST(Pth, ReadsAListUnderItsIndices) {
  const auto set = ReadPth(kGolden + "state_pip_list_f32.pth");
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_THAT(Names(*set), ElementsAre("0", "1", "2", "3", "4", "5", "6", "7", "8"));
  EXPECT_EQ(set->Find("0")->shape, (Shape{128}));
  EXPECT_EQ(set->Find("7")->shape, (Shape{2, 64, 64}));
}

TEST(Pth, ReadsTunedStates) {
  const auto set = ReadPth(kGolden + "peft_time_state_bf16.pth");
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_THAT(Names(*set), ElementsAre("blocks.0.att.time_state", "blocks.1.att.time_state",
                                       "blocks.2.att.time_state"));
  std::string layers;
  for (const Tensor& tensor : set->tensors()) {
    EXPECT_EQ(tensor.dtype, DType::kBF16);
    EXPECT_EQ(tensor.shape, (Shape{2, 64, 64}));
    layers += Text(tensor.data);
  }
  EXPECT_EQ(layers, Golden(kGolden + "tuned_time_state").Bytes("time_state"));
}

// Tensors are where they are in the file.
TEST(Pth, MapsWhatIsNotStrided) {
  const std::string file = ReadAll(kGolden + "tiny_rwkv7_bf16.pth");
  const auto set = ParsePth("memory", Bytes(file), nullptr);
  ASSERT_TRUE(set.ok()) << set.status();
  for (const Tensor& tensor : set->tensors()) {
    EXPECT_GE(tensor.data.data(), Bytes(file).data());
    EXPECT_LE(tensor.data.data() + tensor.data.size(), Bytes(file).data() + file.size());
    EXPECT_EQ((tensor.data.data() - Bytes(file).data()) % 64, 0) << tensor.name;
  }
}

constexpr DType kWritten[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                              DType::kI32, DType::kI16, DType::kI8,  DType::kU8,   DType::kBool};

struct Everything {
  Everything() {
    unsigned char next = 1;
    const auto add = [&](const std::string& name, DType dtype, const Shape& shape) {
      std::string data(*TensorBytes(dtype, shape), '\0');
      for (char& byte : data) {
        byte = static_cast<char>(next = static_cast<unsigned char>(next * 31 + 7));
      }
      contents.push_back(std::make_unique<std::string>(std::move(data)));
      tensors.push_back(
          {.name = name, .dtype = dtype, .shape = shape, .data = Bytes(*contents.back())});
    };
    for (const DType dtype : kWritten) {
      add("t." + std::string(DTypeName(dtype)), dtype, {3, 1, 5});
    }
    add("scalar", DType::kF32, {});
    add("empty", DType::kF64, {4, 0, 2});
    add("name with \"quotes\", \\ and é", DType::kI8, {70000});
  }
  std::vector<std::unique_ptr<std::string>> contents;
  std::vector<Tensor> tensors;
};

TEST(Pth, WhatIsWrittenIsReadAgain) {
  const Everything everything;
  const auto file = SerializePth(everything.tensors, PthContainer::kDict);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(LooksLikePth(*file));
  EXPECT_EQ(*SerializePth(everything.tensors, PthContainer::kDict), *file);
  TemporaryDirectory directory;
  WriteAll(directory / "out.pth", *file);
  const auto set = ReadPth(directory / "out.pth");
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_EQ(set->tensors().size(), everything.tensors.size());
  for (const Tensor& tensor : everything.tensors) {
    const Tensor* found = set->Find(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->dtype, tensor.dtype) << tensor.name;
    EXPECT_EQ(found->shape, tensor.shape) << tensor.name;
    EXPECT_EQ(Text(found->data), Text(tensor.data)) << tensor.name;
  }
}

TEST(Pth, AListKeepsItsOrder) {
  Everything everything;
  for (Tensor& tensor : everything.tensors) tensor.name = "same";  // lists have no names
  const auto file = SerializePth(everything.tensors, PthContainer::kList);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto set = ParsePth("list.pth", Bytes(*file), nullptr);
  ASSERT_TRUE(set.ok()) << set.status();
  for (size_t i = 0; i < everything.tensors.size(); ++i) {
    const Tensor* found = set->Find(std::to_string(i));
    ASSERT_NE(found, nullptr) << i;
    EXPECT_EQ(found->shape, everything.tensors[i].shape) << i;
    EXPECT_EQ(Text(found->data), Text(everything.tensors[i].data)) << i;
  }
  const auto empty = SerializePth({}, PthContainer::kList);
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(ParsePth("empty.pth", Bytes(*empty), nullptr)->tensors().size(), 0u);
}

TEST(Pth, TheWriterRefusesWhatTheFormatDoesNotHave) {
  const std::string data(8, 'x');
  const auto write = [&](const Tensor& a, const Tensor& b) {
    const Tensor tensors[] = {a, b};
    return std::string(SerializePth(tensors, PthContainer::kDict).status().message());
  };
  const Tensor good = {.name = "a", .dtype = DType::kF32, .shape = {2}, .data = Bytes(data)};
  Tensor bad = good;
  EXPECT_THAT(write(good, bad), HasSubstr("a name of its own"));
  bad.name = "b";
  EXPECT_EQ(write(good, bad), "");
  bad.dtype = DType::kU64;
  EXPECT_THAT(write(good, bad), HasSubstr("b: expected a dtype that .pth files have, found u64"));
  bad.dtype = DType::kF64;
  EXPECT_THAT(write(good, bad), HasSubstr("f64 [2], found 8 bytes"));
  bad = good;
  bad.name = "";
  EXPECT_THAT(write(good, bad), HasSubstr("tensor 1"));
}

TEST(Pth, IsToldByItsFirstBytes) {
  EXPECT_TRUE(LooksLikePth("PK\x03\x04rest"));
  EXPECT_TRUE(LooksLikePth(ReadAll(kGolden + "pth_legacy_format.pth").substr(0, 16)));
  EXPECT_FALSE(LooksLikePth(""));
  EXPECT_FALSE(LooksLikePth("PK\x05\x06"));
  EXPECT_FALSE(LooksLikePth("\x80\x02}q"));
}

}  // namespace
}  // namespace dreamstate::tensors
