#include "core/tensors/import.h"

#include "core/tensors/pth.h"
#include "core/tensors/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::tensors {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;
using testing::WriteAll;

const std::string kTiny = DREAMSTATE_TEST_DATA "/models/tiny-rwkv-7v0-834K-FP32.bin";

TEST(ImportBackbone, TellsFormatsByTheirFirstBytes) {
  TemporaryDirectory directory;
  const auto ggmf = ImportBackbone(kTiny);
  ASSERT_TRUE(ggmf.ok()) << ggmf.status();
  // Neither is the name asked.
  const std::string path = directory / "model.bin";
  ASSERT_TRUE(WriteSafetensors(path, ggmf->tensors(), {}).ok());
  const auto safetensors = ImportBackbone(path);
  ASSERT_TRUE(safetensors.ok()) << safetensors.status();
  EXPECT_EQ(Fingerprint(*safetensors), Fingerprint(*ggmf));
}

// As official checkpoints store it: vectors as [1, 1, D], the first layer with a value residual
// that nothing reads.
TEST(ImportBackbone, OneModelHasOneFingerprintFromAnyFile) {
  TemporaryDirectory directory;
  const auto ggmf = ImportBackbone(kTiny);
  ASSERT_TRUE(ggmf.ok()) << ggmf.status();
  std::vector<Tensor> official;
  for (Tensor tensor : ggmf->tensors()) {
    const std::string last = tensor.name.substr(tensor.name.rfind('.') + 1);
    if (tensor.shape.size() == 1 && last != "weight" && last != "bias") {
      tensor.shape = {1, 1, tensor.shape[0]};
    }
    official.push_back(tensor);
    for (const std::string part : {"v0", "v1", "v2"}) {
      if (tensor.name == "blocks.1.att." + part) {
        official.push_back(tensor);
        official.back().name = "blocks.0.att." + part;
      }
    }
  }
  ASSERT_EQ(official.size(), ggmf->tensors().size() + 3);
  ASSERT_TRUE(WriteSafetensors(directory / "official", official, {{"format", "pt"}}).ok());
  EXPECT_NE(Fingerprint(*ReadSafetensors(directory / "official")), Fingerprint(*ggmf));
  const auto imported = ImportBackbone(directory / "official");
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(Fingerprint(*imported), Fingerprint(*ggmf));
}

std::vector<Tensor> WithPrefix(const std::string& prefix, const TensorSet& set) {
  std::vector<Tensor> tensors = set.tensors();
  for (Tensor& tensor : tensors) tensor.name.insert(0, prefix);
  return tensors;
}

TEST(ImportBackbone, AnOfficialCheckpointHasTheFingerprintOfItsSafetensors) {
  TemporaryDirectory directory;
  const std::string pth = DREAMSTATE_TEST_DATA "/golden/tiny_rwkv7_bf16.pth";
  const auto imported = ImportBackbone(pth);
  ASSERT_TRUE(imported.ok()) << imported.status();
  ASSERT_NE(ReadPth(pth)->Find("blocks.0.att.v1"), nullptr);
  EXPECT_EQ(imported->Find("blocks.0.att.v1"), nullptr);
  EXPECT_NE(imported->Find("blocks.1.att.v1"), nullptr);
  EXPECT_EQ(imported->Find("blocks.0.att.x_r")->shape, Shape{128});
  ASSERT_TRUE(WriteSafetensors(directory / "same", ReadPth(pth)->tensors(), {}).ok());
  EXPECT_EQ(Fingerprint(*ImportBackbone(directory / "same")), Fingerprint(*imported));
  // However it was written, and whatever its trainer put before the names.
  for (const std::string prefix : {"", "_forward_module.", "model.", "_forward_module.model."}) {
    const auto file = SerializePth(WithPrefix(prefix, *imported), PthContainer::kDict);
    ASSERT_TRUE(file.ok()) << file.status();
    WriteAll(directory / "again", *file);
    const auto again = ImportBackbone(directory / "again");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(Fingerprint(*again), Fingerprint(*imported)) << prefix;
  }
}

TEST(NormalForm, TakesAwayOnlyPrefixesThatAllNamesHave) {
  const std::string data(4, 'x');
  const auto bytes = std::as_bytes(std::span(data));
  const auto set =
      TensorSet::Make("f",
                      {{.name = "model.a", .dtype = DType::kF32, .shape = {1}, .data = bytes},
                       {.name = "lm_head", .dtype = DType::kF32, .shape = {1}, .data = bytes}},
                      {}, nullptr);
  EXPECT_NE(NormalForm(*set)->Find("model.a"), nullptr);
  EXPECT_EQ(NormalForm(*TensorSet::Make("f", {}, {}, nullptr))->tensors().size(), 0u);
}

TEST(NormalForm, LeavesMatricesAsTheyAre) {
  const std::string data(16, 'x');
  const auto bytes = std::as_bytes(std::span(data));
  const auto set = TensorSet::Make(
      "f",
      {{.name = "blocks.0.att.r_k", .dtype = DType::kF32, .shape = {1, 4}, .data = bytes},
       {.name = "blocks.0.att.key.weight", .dtype = DType::kF32, .shape = {1, 4}, .data = bytes},
       {.name = "blocks.0.att.x_k", .dtype = DType::kF32, .shape = {1, 1, 4}, .data = bytes},
       {.name = "blocks.10.att.v0", .dtype = DType::kF32, .shape = {4, 1}, .data = bytes}},
      {}, nullptr);
  const auto normal = NormalForm(*set);
  ASSERT_TRUE(normal.ok());
  EXPECT_EQ(normal->Find("blocks.0.att.r_k")->shape, (Shape{1, 4}));
  EXPECT_EQ(normal->Find("blocks.0.att.key.weight")->shape, (Shape{1, 4}));
  EXPECT_EQ(normal->Find("blocks.0.att.x_k")->shape, (Shape{4}));
  EXPECT_EQ(normal->Find("blocks.10.att.v0")->shape, (Shape{4}));
}

TEST(ImportBackbone, RefusesOtherFilesAndListsWhatFits) {
  TemporaryDirectory directory;
  for (const std::string& contents :
       {std::string(), std::string("PK\x01\x02 no checkpoint"), std::string("GGUF\x03"),
        std::string(3, '\0'), std::string(100, '\xff')}) {
    WriteAll(directory / "file", contents);
    const absl::Status status = ImportBackbone(directory / "file").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("safetensors"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("ggmf"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(".pth"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(directory / "file"));
  }
  EXPECT_EQ(ImportBackbone(directory / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ImportBackbone(directory.path()).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace dreamstate::tensors
