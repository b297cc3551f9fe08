#include "core/tensors/peer_names.h"

#include <cstring>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "core/tensors/import.h"
#include "core/tensors/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::tensors {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

// An official checkpoint with ranks that all differ.
TensorSet Official() {
  return ImportBackbone(DREAMSTATE_TEST_DATA "/golden/tiny_rwkv7_bf16.pth").value();
}

// Tensors made of others.
struct Made {
  std::vector<std::unique_ptr<std::string>> storage;
  std::vector<Tensor> tensors;

  void Add(Tensor tensor, const std::string& name) {
    tensor.name = name;
    tensors.push_back(std::move(tensor));
  }
  void AddTransposed(const Tensor& tensor, const std::string& name) {
    const size_t rows = tensor.shape[0], columns = tensor.shape[1], element = 2;  // bf16
    auto out = std::make_unique<std::string>(tensor.data.size(), '\0');
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < columns; ++c) {
        std::memcpy(out->data() + (c * rows + r) * element,
                    tensor.data.data() + (r * columns + c) * element, element);
      }
    }
    storage.push_back(std::move(out));
    tensors.push_back({.name = name,
                       .dtype = tensor.dtype,
                       .shape = {tensor.shape[1], tensor.shape[0]},
                       .data = std::as_bytes(std::span(*storage.back()))});
  }
};

bool IsLowRank(const std::string& name) {
  const std::string last = name.substr(name.rfind('.') + 1);
  return last.size() == 2 && absl::StrContains("wavg", last.substr(0, 1)) &&
         (last[1] == '1' || last[1] == '2');
}

void ExpectImportedAs(const Made& made, const TensorSet& official) {
  TemporaryDirectory directory;
  ASSERT_TRUE(WriteSafetensors(directory / "m", made.tensors, {}).ok());
  const auto imported = ImportBackbone(directory / "m");
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(Fingerprint(*imported), Fingerprint(official));
}

TEST(OfficialNames, TurnsTheLowRankMatricesOfWebRwkv) {
  const TensorSet official = Official();
  Made made;
  for (const Tensor& tensor : official.tensors()) {
    if (IsLowRank(tensor.name)) {
      made.AddTransposed(tensor, tensor.name);
    } else {
      made.Add(tensor, tensor.name);
    }
  }
  ExpectImportedAs(made, official);
}

// As flash-linear-attention's converter names them.
std::string FlaName(const std::string& official) {
  std::string name = absl::StrReplaceAll(official, {{"emb.weight", "model.embeddings.weight"},
                                                    {"ln_out.", "model.norm."},
                                                    {"head.weight", "lm_head.weight"},
                                                    {"blocks.", "model.layers."},
                                                    {".ln0.", ".pre_norm."},
                                                    {".ln1.", ".attn_norm."},
                                                    {".ln2.", ".ffn_norm."},
                                                    {".att.ln_x.", ".attn.g_norm."},
                                                    {".att.receptance.", ".attn.r_proj."},
                                                    {".att.key.", ".attn.k_proj."},
                                                    {".att.value.", ".attn.v_proj."},
                                                    {".att.output.", ".attn.o_proj."},
                                                    {".att.", ".attn."}});
  const size_t dot = name.rfind('.');
  const std::string last = name.substr(dot + 1);
  if (last.size() != 2 || !absl::StrContains("wavg", last.substr(0, 1))) return name;
  const std::string stem = name.substr(0, dot + 1) + last.substr(0, 1) + "_lora.lora.";
  if (last[1] == '0') return stem + "2.bias";
  return stem + (last[1] == '1' ? "0.weight" : "2.weight");
}

Made Fla(const TensorSet& official, bool fused) {
  Made made;
  for (const Tensor& tensor : official.tensors()) {
    const std::string name = FlaName(tensor.name);
    if (IsLowRank(tensor.name)) {
      made.AddTransposed(tensor, name);
    } else if (fused && absl::StrContains(tensor.name, ".att.x_")) {
      if (!absl::EndsWith(tensor.name, "x_r")) continue;
      const std::string stem = tensor.name.substr(0, tensor.name.size() - 1);
      auto all = std::make_unique<std::string>();
      for (const char letter : std::string("rwkvag")) {
        const auto data = official.Find(stem + letter)->data;
        all->append(reinterpret_cast<const char*>(data.data()), data.size());
      }
      made.storage.push_back(std::move(all));
      made.tensors.push_back({.name = name.substr(0, name.size() - 1) + "x",
                              .dtype = tensor.dtype,
                              .shape = {6, tensor.shape[0]},
                              .data = std::as_bytes(std::span(*made.storage.back()))});
    } else {
      made.Add(tensor, name);
    }
  }
  return made;
}

TEST(OfficialNames, ReadsHuggingFaceModels) {
  const TensorSet official = Official();
  EXPECT_EQ(FlaName("blocks.2.att.w1"), "model.layers.2.attn.w_lora.lora.0.weight");
  ExpectImportedAs(Fla(official, /*fused=*/false), official);
  ExpectImportedAs(Fla(official, /*fused=*/true), official);
}

TEST(OfficialNames, LeaveWhatIsOfficial) {
  const TensorSet official = Official();
  const auto same = OfficialNames(official);
  ASSERT_TRUE(same.ok());
  EXPECT_EQ(same->Find("emb.weight")->data.data(), official.Find("emb.weight")->data.data());
  EXPECT_EQ(Fingerprint(*same), Fingerprint(official));
  EXPECT_TRUE(OfficialNames(TensorSet()).ok());
}

TEST(OfficialNames, RefuseOtherShapesByTheirNames) {
  const Made fla = Fla(Official(), /*fused=*/true);
  const auto convert = [&](const std::string& name, const Shape& shape) {
    std::vector<Tensor> tensors = fla.tensors;
    for (Tensor& tensor : tensors) {
      if (tensor.name == name) tensor.shape = shape;
    }
    const auto set = TensorSet::Make("f", std::move(tensors), {}, nullptr);
    EXPECT_TRUE(set.ok()) << set.status();
    return std::string(OfficialNames(*set).status().message());
  };
  EXPECT_THAT(convert("model.layers.1.attn.w_lora.lora.0.weight", {32 * 128}),
              HasSubstr("model.layers.1.attn.w_lora.lora.0.weight: expected a matrix, found bf16"));
  EXPECT_THAT(convert("model.layers.0.attn.x_x", {3, 256}), HasSubstr("expected [6, width]"));
  // Names that nobody knows stay, and are refused where a backbone is made of them.
  const std::string data(2, 'x');
  const auto set = TensorSet::Make("f",
                                   {{.name = "model.embeddings.weight",
                                     .dtype = DType::kBF16,
                                     .shape = {1},
                                     .data = std::as_bytes(std::span(data))},
                                    {.name = "model.layers.",
                                     .dtype = DType::kBF16,
                                     .shape = {1},
                                     .data = std::as_bytes(std::span(data))},
                                    {.name = "model.layers.0.attn.w_lora.lora.9",
                                     .dtype = DType::kBF16,
                                     .shape = {1},
                                     .data = std::as_bytes(std::span(data))}},
                                   {}, nullptr);
  const auto kept = OfficialNames(*set);
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_NE(kept->Find("model.layers."), nullptr);
  EXPECT_NE(kept->Find("model.layers.0.attn.w_lora.lora.9"), nullptr);
}

}  // namespace
}  // namespace dreamstate::tensors
