#include "core/tensors/import.h"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>

#include "core/repository/format_table.h"
#include "core/repository/repository.h"
#include "core/rwkv/engine.h"
#include "core/rwkv/footprint.h"
#include "core/tensors/pth.h"
#include "core/tensors/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/trainer/format_table.h"
#include "server/trainer/import_backbone.h"
#include "tests/support/random_backbone.h"
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
  const auto policy = repository::FormatPolicyOf(manifest);
  ASSERT_TRUE(policy.ok()) << policy.status();
  const auto& measured = manifest.components[0].config["weight_formats"]["bits_per_byte"];
  EXPECT_GT(measured["fp32"].get<double>(), 1.0);
  EXPECT_NEAR(measured["int8"].get<double>(), measured["bf16"].get<double>(), 0.02);
  for (const auto format :
       {rwkv::WeightFormat::kFloat32, rwkv::WeightFormat::kBfloat16, rwkv::WeightFormat::kInt8}) {
    auto weights = rwkv::Weights::Load(*tensors, format, *policy);
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

TEST(Import, ReadsAnOfficialCheckpoint) {
  TemporaryDirectory directory;
  ImportOptions options = TinyOptions(directory);
  options.file = DREAMSTATE_TEST_DATA "/golden/tiny_rwkv7_bf16.pth";
  const auto imported = ImportBackbone(options);
  ASSERT_TRUE(imported.ok()) << imported.status();
  // All ranks differ; they and F are read from the shapes.
  const rwkv::Config& config = imported->config;
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.ffn_width, 512);
  EXPECT_EQ(config.rank_decay, 32);
  EXPECT_EQ(config.rank_iclr, 16);
  EXPECT_EQ(config.rank_value, 24);
  EXPECT_EQ(config.rank_gate, 40);
  EXPECT_EQ(imported->manifest.tokenizer, "byte");
  EXPECT_EQ(imported->manifest.chat_template, "");
  EXPECT_EQ(imported->manifest.components[0].config["dtype"], "bf16");
  // Half of it, as a copy that broke off, is refused, and the version that is there stays.
  const std::string file = testing::ReadAll(options.file);
  options.file = directory / "half.pth";
  WriteAll(options.file, file.substr(0, file.size() / 2));
  EXPECT_THAT(std::string(ImportBackbone(options).status().message()), HasSubstr("truncated"));
  const auto repository = repository::Repository::Open(directory / "models");
  EXPECT_EQ((*repository)->ListVersions("tiny")->size(), 1u);
}

// A model with the vocabulary of the World, as small as can be.
std::string WriteWorldModel(const TemporaryDirectory& directory, int vocab) {
  rwkv::Config config = testing::SmallConfig();
  config.layers = 1;
  config.width = 64;
  config.heads = 1;
  config.ffn_width = 64;
  config.vocab = vocab;
  const tensors::TensorSet set = testing::RandomBackbone(config, 1);
  const auto file = tensors::SerializePth(set.tensors(), tensors::PthContainer::kDict);
  EXPECT_TRUE(file.ok()) << file.status();
  WriteAll(directory / "world.pth", *file);
  return directory / "world.pth";
}

TEST(Import, GivesAModelOfTheWorldVocabularyItsTokenizerAndChatTemplate) {
  TemporaryDirectory directory;
  ImportOptions options = TinyOptions(directory);
  options.file = WriteWorldModel(directory, 65536);
  const auto imported = ImportBackbone(options);
  ASSERT_TRUE(imported.ok()) << imported.status();
  const repository::Manifest& manifest = imported->manifest;
  EXPECT_EQ(manifest.tokenizer, "world");
  EXPECT_EQ(manifest.chat_template, "User: {user}\n\nAssistant:");
  EXPECT_EQ(manifest.end_token, 0);
  EXPECT_EQ(manifest.separator_token, 0);
  // 102 bytes in fewer tokens than bytes, behind the separator.
  EXPECT_EQ(manifest.self_test.tokens.front(), 0);
  EXPECT_LT(manifest.self_test.tokens.size(), 40u);
}

TEST(Import, RefusesAVocabularyThatDoesNotFitTheModel) {
  TemporaryDirectory directory;
  ImportOptions options = TinyOptions(directory);
  options.tokenizer = "world";
  EXPECT_THAT(std::string(ImportBackbone(options).status().message()),
              HasSubstr("expected one of at most 256 tokens, as many as the model has, found world "
                        "with 65530"));
  options.tokenizer = "";
  options.file = WriteWorldModel(directory, 50304);
  EXPECT_THAT(std::string(ImportBackbone(options).status().message()),
              HasSubstr("tokenizer: expected to be named for a vocabulary of 50304"));
  options.tokenizer = "byte";  // some ids have no bytes then
  EXPECT_TRUE(ImportBackbone(options).ok());
}

TEST(Import, RefusesAModelLargerThanTheMemoryBeforeItIsLoaded) {
  TemporaryDirectory directory;
  ImportOptions options = TinyOptions(directory);
  options.available_memory_bytes = 1 << 20;
  std::vector<std::string> stages;
  options.progress = [&stages](std::string_view stage, int64_t) { stages.emplace_back(stage); };
  const absl::Status status = ImportBackbone(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("self-test: expected"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("in int8, found 1.05 MB"));
  EXPECT_TRUE(stages.empty());
  EXPECT_TRUE(directory.Names().empty());
  // Enough for bf16 and not for fp32: measured in what fits, and any format may serve it.
  const auto set = tensors::ImportBackbone(kTiny);
  options.available_memory_bytes = rwkv::EstimateRunBytes(*set, rwkv::WeightFormat::kFloat32) - 1;
  const auto imported = ImportBackbone(options);
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_THAT(stages, ::testing::ElementsAre("self-test in bf16", "publish"));
  const repository::SelfTest& test = imported->manifest.self_test;
  EXPECT_FALSE(test.tolerance.contains("int8"));  // not measured: not taken unless asked for
  options.available_memory_bytes = std::nullopt;
  const auto whole = ImportBackbone(options);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_NEAR(test.expected_nll, whole->manifest.self_test.expected_nll,
              whole->manifest.self_test.tolerance["bf16"].get<double>());
  EXPECT_NEAR(whole->manifest.self_test.expected_nll, test.expected_nll,
              test.tolerance["fp32"].get<double>());
}

// A file that is cut, or written over, while it is imported: at any stage.
TEST(Import, PublishesNothingOfAFileThatChangesMeanwhile) {
  const std::string contents = testing::ReadAll(kTiny);
  const auto cut = [](const std::string& file) { ASSERT_EQ(truncate(file.c_str(), 4096), 0); };
  const auto overwrite = [](const std::string& file) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(1'000'000);
    stream << std::string(8, '\0');
  };
  const auto import = [&](std::string_view at, const std::function<void(std::string)>& change) {
    TemporaryDirectory directory;
    ImportOptions options = TinyOptions(directory);
    options.file = directory / "model.bin";
    WriteAll(options.file, contents);
    options.progress = [&](std::string_view stage, int64_t) {
      if (stage == at) change(options.file);
    };
    const absl::Status status = ImportBackbone(options).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("model.bin")) << at;
    EXPECT_FALSE(std::filesystem::exists(directory / "models/bundles")) << at;
    EXPECT_FALSE(std::filesystem::exists(directory / "models/blobs")) << at;
    return status.code();
  };
  for (const char* stage : {"weight formats", "self-test in fp32", "self-test in bf16",
                            "self-test in int8", "publish"}) {
    EXPECT_EQ(import(stage, cut), absl::StatusCode::kDataLoss) << stage;
  }
  for (const char* stage : {"self-test in bf16", "self-test in int8", "publish"}) {
    EXPECT_EQ(import(stage, overwrite), absl::StatusCode::kDataLoss) << stage;
  }
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

TEST(Import, SaysWhatWeightFormatsCostOrWhyNobodyMeasured) {
  rwkv::FormatTable table{.bytes = 2048, .fp32 = 1.25, .bf16 = 1.26, .int8 = 1.27};
  table.policy.int8.fill(true);
  const auto describe = [&table] {
    return DescribeWeightFormats(
        {{repository::kFormatTableField, repository::FormatTableJson(table)}}, 1000);
  };
  const std::string losses = "bits per byte fp32 1.2500, bf16 1.2600, int8 1.2700; int8 for ";
  EXPECT_EQ(describe(), losses + "all kinds");
  table.policy.int8[static_cast<int>(rwkv::MatrixKind::kFfnValue)] = false;
  table.policy.int8[static_cast<int>(rwkv::MatrixKind::kHead)] = false;
  EXPECT_EQ(describe(), losses + "all kinds but ffn.value, head");
  table.policy.int8.fill(false);
  EXPECT_EQ(describe(), losses + "no kind");
  const nlohmann::json nothing = nlohmann::json::object();
  EXPECT_EQ(DescribeWeightFormats(nothing, kMostMeasuredParameters + 1),
            "not measured: more than 2000000000 parameters");
  EXPECT_EQ(DescribeWeightFormats(nothing, kMostMeasuredParameters),
            "not measured: in fp32 larger than the memory that is free");
}

TEST(Import, ADownloadedStateIsNamedAsOne) {
  TemporaryDirectory directory;
  ImportOptions options = TinyOptions(directory);
  options.file = directory / "alice.safetensors";
  const std::vector<float> values(4);
  const auto file =
      tensors::SerializeSafetensors({{{.name = "wkv",
                                       .dtype = tensors::DType::kF32,
                                       .shape = {4},
                                       .data = std::as_bytes(std::span(values))}}},
                                    {{"dreamstate", "{}"}, {"dreamstate_sha256", ""}});
  ASSERT_TRUE(file.ok()) << file.status();
  WriteAll(options.file, *file);
  const absl::Status status = ImportBackbone(options).status();
  EXPECT_EQ(status.message(),
            "expected a model, found a state: keep it with \"dreamstate states upload " +
                options.file + "\"");
}

}  // namespace
}  // namespace dreamstate::trainer
