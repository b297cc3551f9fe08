#include "core/tensors/import.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "core/repository/repository.h"
#include "core/rwkv/engine.h"
#include "core/tensors/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/trainer/import_backbone.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::trainer {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;
using testing::WriteAll;

const std::string kTiny = DREAMSTATE_TEST_DATA "/models/tiny-rwkv-7v0-834K-FP32.bin";

ImportOptions TinyOptions(const TemporaryDirectory& directory) {
  ImportOptions options;
  options.file = kTiny;
  options.name = "tiny";
  options.repository = directory / "models";
  return options;
}

TEST(Import, PublishesABundleThatVerifiesAndTestsItself) {
  TemporaryDirectory directory;
  const auto imported = ImportBackbone(TinyOptions(directory));
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(imported->config.layers, 12);
  EXPECT_EQ(imported->config.width, 64);
  EXPECT_EQ(imported->parameters, 829888);

  const auto repository = repository::Repository::Open(directory / "models");
  ASSERT_TRUE(repository.ok());
  const auto versions = (*repository)->ListVersions("tiny");
  ASSERT_TRUE(versions.ok()) << versions.status();
  ASSERT_TRUE(versions->front().manifest.ok());
  const repository::Manifest& manifest = *versions->front().manifest;
  EXPECT_EQ(manifest.version, 1);
  EXPECT_EQ(manifest.tokenizer, "byte");
  EXPECT_EQ(manifest.components[0].config["layers"], 12);
  EXPECT_EQ(manifest.components[0].config["dtype"], "f32");
  EXPECT_TRUE((*repository)->Verify(manifest).ok());
  EXPECT_EQ(manifest.components[0].digest, tensors::Fingerprint(*tensors::ImportBackbone(kTiny)));

  // The self-test as a server runs it: token by token, in each format.
  const auto tensors = (*repository)->LoadComponent(manifest, "backbone");
  ASSERT_TRUE(tensors.ok());
  const repository::SelfTest& test = manifest.self_test;
  EXPECT_EQ(test.tokens.front(), 0);
  kernels::ThreadPool pool(1);
  for (const auto format : {rwkv::WeightFormat::kFloat32, rwkv::WeightFormat::kBfloat16}) {
    auto weights = rwkv::Weights::Load(*tensors, format);
    ASSERT_TRUE(weights.ok()) << weights.status();
    rwkv::Engine engine(*weights, {.max_tokens = 1, .max_sequences = 1, .slots = 1}, pool);
    engine.slots().Clear(0);
    double loss = 0;
    for (size_t i = 0; i + 1 < test.tokens.size(); ++i) {
      float nll = 0;
      rwkv::Segment segment{.slot = 0, .tokens = std::span(test.tokens).subspan(i, 1)};
      segment.targets = std::span(test.tokens).subspan(i + 1, 1);
      segment.nll = &nll;
      ASSERT_TRUE(engine.Forward({&segment, 1}).ok());
      loss += nll;
    }
    const double tolerance = test.tolerance[std::string(rwkv::WeightFormatName(format))];
    EXPECT_NEAR(loss, test.expected_nll, tolerance);
    // Tight enough to see a wrong model: a fifth of a nat a token would pass unnoticed otherwise.
    EXPECT_LT(tolerance, 0.2 * static_cast<double>(test.tokens.size()));
  }
}

TEST(Import, OfTheSameModelAgainIsTheNextVersionOfTheSameBackbone) {
  TemporaryDirectory directory;
  const auto first = ImportBackbone(TinyOptions(directory));
  const auto second = ImportBackbone(TinyOptions(directory));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(second->manifest.version, 2);
  EXPECT_EQ(second->manifest.components[0].digest, first->manifest.components[0].digest);
  EXPECT_EQ(second->manifest.self_test.expected_nll, first->manifest.self_test.expected_nll);
  EXPECT_EQ(directory.Names("models/blobs/sha256").size(), 1u);
}

TEST(Import, ReadsSafetensorsToo) {
  TemporaryDirectory directory;
  const auto tensors = tensors::ImportBackbone(kTiny);
  ASSERT_TRUE(tensors::WriteSafetensors(directory / "m.safetensors", tensors->tensors(), {}).ok());
  ImportOptions options = TinyOptions(directory);
  options.file = directory / "m.safetensors";
  options.chat_template = "User: {user}\n\nAssistant:";
  const auto imported = ImportBackbone(options);
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(imported->manifest.components[0].digest, tensors::Fingerprint(*tensors));
  EXPECT_EQ(imported->manifest.chat_template, options.chat_template);
}

// Copies the tiny model with a change.
absl::Status ImportChanged(const TemporaryDirectory& directory,
                           const std::function<void(std::vector<tensors::Tensor>&)>& change) {
  const auto tensors = tensors::ImportBackbone(kTiny);
  std::vector<tensors::Tensor> list = tensors->tensors();
  change(list);
  EXPECT_TRUE(tensors::WriteSafetensors(directory / "changed.safetensors", list, {}).ok());
  ImportOptions options = TinyOptions(directory);
  options.file = directory / "changed.safetensors";
  return ImportBackbone(options).status();
}

tensors::Tensor& Named(std::vector<tensors::Tensor>& list, std::string_view name) {
  return *std::find_if(list.begin(), list.end(),
                       [name](const tensors::Tensor& tensor) { return tensor.name == name; });
}

TEST(Import, RefusesWrongTensorsAndPublishesNothing) {
  TemporaryDirectory directory;
  std::string poisoned;
  const struct {
    const char* says;
    std::function<void(std::vector<tensors::Tensor>&)> change;
  } cases[] = {
      {"blocks.3.att.key.weight",
       [](auto& list) {
         list.erase(list.begin() + (&Named(list, "blocks.3.att.key.weight") - list.data()));
       }},
      {"surprise",
       [](auto& list) {
         list.push_back(Named(list, "ln_out.bias"));
         list.back().name = "surprise";
       }},
      {"head.weight",
       [](auto& list) {
         tensors::Tensor& head = Named(list, "head.weight");
         head.shape = {head.shape[1], head.shape[0]};
       }},
      {"ln_out.bias",
       [&poisoned](auto& list) {
         tensors::Tensor& bias = Named(list, "ln_out.bias");
         poisoned.assign(bias.data.size(), '\0');
         const float nan = std::numeric_limits<float>::quiet_NaN();
         std::memcpy(poisoned.data() + 8, &nan, sizeof(nan));
         bias.data = std::as_bytes(std::span(poisoned));
       }},
      {"emb.weight",
       [](auto& list) {
         tensors::Tensor& embedding = Named(list, "emb.weight");
         embedding.dtype = tensors::DType::kI32;
       }},
  };
  for (const auto& c : cases) {
    const absl::Status status = ImportChanged(directory, c.change);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.says));
    EXPECT_THAT(std::string(status.message()), HasSubstr("changed.safetensors"));
  }
  EXPECT_EQ(directory.Names().size(), 1u);  // no repository was made
}

TEST(Import, RefusesOptionsThatDoNotFitTheModel) {
  TemporaryDirectory directory;
  const struct {
    const char* says;
    std::function<void(ImportOptions&)> change;
  } cases[] = {
      {"end token: expected 0 to 255, found 256", [](ImportOptions& o) { o.end_token = 256; }},
      {"separator token: expected 0 to 255, found -1",
       [](ImportOptions& o) { o.separator_token = -1; }},
      {"tokenizer: expected", [](ImportOptions& o) { o.tokenizer = "klingon"; }},
      {"model name: expected", [](ImportOptions& o) { o.name = "../up"; }},
      {"self-test: expected 2 to 4096 tokens, found 1",
       [](ImportOptions& o) { o.self_test_text = ""; }},
      {"self-test: expected 2 to 4096 tokens, found 5001",
       [](ImportOptions& o) { o.self_test_text = std::string(5000, 'x'); }},
      {"No such file", [](ImportOptions& o) { o.file = "/nowhere/model.bin"; }},
      {"chat_template: expected", [](ImportOptions& o) { o.chat_template = "no mark"; }},
  };
  for (const auto& c : cases) {
    ImportOptions options = TinyOptions(directory);
    c.change(options);
    EXPECT_THAT(std::string(ImportBackbone(options).status().message()), HasSubstr(c.says));
  }
  WriteAll(directory / "taken", "x");
  ImportOptions options = TinyOptions(directory);
  options.repository = directory / "taken";
  EXPECT_THAT(std::string(ImportBackbone(options).status().message()),
              HasSubstr("expected a directory"));
}

}  // namespace
}  // namespace dreamstate::trainer
