#include "core/repository/manifest.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::repository {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

Manifest Full() {
  Manifest manifest;
  manifest.model = "tiny";
  manifest.version = 12;
  manifest.components = {
      {"backbone", std::string(64, 'a'), 1234, std::string(64, 'b'), {{"layers", 12}}},
      {"state_dit", std::string(64, 'c'), 99, std::string(64, 'd'), json::object()}};
  manifest.parents = {3, 11};
  manifest.tokenizer = "byte";
  manifest.end_token = 1;
  manifest.separator_token = 2;
  manifest.chat_template = "User: {user}\n\nAssistant: é";
  manifest.metrics = {{"loss", 1.5}, {"nested", {{"deep", {1, 2, nullptr}}}}};
  manifest.self_test = {{0, 5, 255}, 0.1 + 0.2, {{"fp32", 1e-3}, {"bf16", 0.5}}};
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, "2026-01-31T12:00:00.123456789Z",
                              &manifest.created, nullptr));
  manifest.trainer_step = 70000;
  return manifest;
}

TEST(Manifest, EveryFieldComesBack) {
  const Manifest full = Full();
  const std::string text = SerializeManifest(full);
  const auto parsed = ParseManifest("1.json", text);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(SerializeManifest(*parsed), text);
  EXPECT_EQ(parsed->model, "tiny");
  EXPECT_EQ(parsed->version, 12);
  ASSERT_EQ(parsed->components.size(), 2u);
  EXPECT_EQ(parsed->components[0].bytes, 1234);
  EXPECT_EQ(parsed->components[0].config["layers"], 12);
  EXPECT_EQ(parsed->components[1].digest, std::string(64, 'c'));
  EXPECT_EQ(parsed->components[1].file_sha256, std::string(64, 'd'));
  EXPECT_EQ(parsed->parents, full.parents);
  EXPECT_EQ(parsed->end_token, 1);
  EXPECT_EQ(parsed->separator_token, 2);
  EXPECT_EQ(parsed->chat_template, full.chat_template);
  EXPECT_EQ(parsed->metrics, full.metrics);
  EXPECT_EQ(parsed->self_test.tokens, full.self_test.tokens);
  EXPECT_EQ(parsed->self_test.expected_nll, 0.1 + 0.2);
  EXPECT_EQ(parsed->self_test.tolerance["bf16"], 0.5);
  EXPECT_EQ(parsed->created, full.created);
  EXPECT_EQ(parsed->trainer_step, 70000);
  EXPECT_EQ(parsed->Find("state_dit"), &parsed->components[1]);
  EXPECT_EQ(parsed->Find("hybrid"), nullptr);
}

TEST(Manifest, UnknownFieldsAreLeftAlone) {
  json root = json::parse(SerializeManifest(Full()));
  root["added_later"] = {1, 2, 3};
  root["components"][0]["added_later"] = "x";
  EXPECT_TRUE(ParseManifest("1.json", root.dump()).ok());
}

struct Change {
  const char* pointer;
  json value;  // discarded = remove
  std::string says;
};

json Remove() { return json(json::value_t::discarded); }

TEST(Manifest, EveryBadFieldIsRefusedByName) {
  const json nan = nullptr;
  const Change changes[] = {
      {"/schema", 2, "schema: expected 1 (a later one needs a later release), found 2"},
      {"/schema", "1", "schema: expected an integer"},
      {"/schema", Remove(),
       "schema: expected an integer of at least 1 that fits 32 bits, found nothing"},
      {"/model", "../x", "model: expected a model name"},
      {"/model", 3, "model: expected a text, found 3"},
      {"/version", 0, "version: expected an integer of at least 1"},
      {"/version", -4, "found -4"},
      {"/version", 1.5, "found 1.5"},
      {"/version", 18446744073709551615u, "found 18446744073709551615"},
      {"/components", json::array(), "components: expected an array of at least one"},
      {"/components", json::object(), "components: expected an array"},
      {"/components", {1}, "components: expected an array of objects"},
      {"/components", std::vector<json>(4, json::object()), "each kind once"},
      {"/components/0/kind", "hybrid", "components[0].kind: expected a backbone first"},
      {"/components/1/kind", "backbone", "components[1].kind: expected a backbone first"},
      {"/components/0/kind", "other", "expected one of backbone, state_dit, hybrid"},
      {"/components/0/digest", "../../etc/passwd", "components[0].digest: expected 64"},
      {"/components/0/digest", std::string(64, 'A'), "expected 64 hexadecimal digits"},
      {"/components/0/digest", std::string(100000, 'a'), "expected 64 hexadecimal digits"},
      {"/components/1/file_sha256", Remove(),
       "components[1].file_sha256: expected a text, found nothing"},
      {"/components/0/bytes", -1, "components[0].bytes: expected an integer"},
      {"/components/0/config", 3, "components[0].config: expected an object"},
      {"/parents", {0}, "parents: expected"},
      {"/parents", "3", "parents: expected"},
      {"/tokenizer", "klingon", "tokenizer: expected one of byte, world, found \"klingon\""},
      {"/end_token", -1, "end_token: expected an integer of at least 0 that fits 32 bits"},
      {"/separator_token", 4294967296, "separator_token: expected an integer"},
      {"/chat_template", "no mark", "chat_template: expected nothing, or a text with {user}"},
      {"/chat_template", 1, "chat_template: expected a text"},
      {"/metrics", {1}, "metrics: expected an object"},
      {"/self_test", Remove(), "self_test.tokens: expected"},
      {"/self_test", 1, "self_test: expected an object"},
      {"/self_test/tokens", {1}, "self_test.tokens: expected 2 to 65536 integers"},
      {"/self_test/tokens", {1, -2}, "self_test.tokens"},
      {"/self_test/tokens", std::vector<int>(70000, 1), "found an array of 70000"},
      {"/self_test/expected_nll", nan, "self_test.expected_nll: expected a number, found null"},
      {"/self_test/expected_nll", -1, "self_test.expected_nll: expected a number of at least 0"},
      {"/self_test/tolerance/fp32", 0, "self_test.tolerance: expected a positive number"},
      {"/self_test/tolerance/fp32", "x", "self_test.tolerance"},
      {"/self_test/tolerance/fp32", 1e308, "at most 1 a token"},
      {"/created", "10000-01-01T00:00:00Z", "created: expected a time"},
      {"/created", "infinite-future", "created: expected a time"},
      {"/created", "yesterday", "created: expected a time"},
      {"/created", 12, "created: expected a text"},
      {"/trainer_step", -1, "trainer_step"},
  };
  for (const Change& change : changes) {
    json root = json::parse(SerializeManifest(Full()));
    const json::json_pointer pointer(change.pointer);
    if (change.value.is_discarded()) {
      root.at(pointer.parent_pointer()).erase(pointer.back());
    } else {
      root[pointer] = change.value;
    }
    const auto parsed = ParseManifest("bundles/tiny/12.json", root.dump());
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << change.pointer;
    EXPECT_THAT(std::string(parsed.status().message()),
                AllOf(HasSubstr(change.says), HasSubstr("(bundles/tiny/12.json)")));
    EXPECT_LT(parsed.status().message().size(), 500u);
  }
}

TEST(Manifest, TextThatIsNoManifestIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("null"), std::string("[]"), std::string("{"), std::string("{}"),
        std::string("{\"schema\":1}"), std::string("\xff\xfe"), std::string(100, '\0'),
        std::string("{\"a\":\"\xff\"}"), std::string(2 << 20, ' ')}) {
    EXPECT_EQ(ParseManifest("x", text).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(Manifest, ANulDoesNotHideWhatFollows) {
  const std::string text = SerializeManifest(Full());
  EXPECT_TRUE(ParseManifest("x", text + " \n").ok());
  EXPECT_FALSE(ParseManifest("x", text + std::string("\0garbage", 8)).ok());
}

TEST(Manifest, DeepNestingIsRefusedWithoutASingleStackFrameADepth) {
  std::string text = SerializeManifest(Full());
  const size_t at = text.find("\"metrics\": {") + 12;
  const std::string arrays =
      "\"deep\": " + std::string(300000, '[') + std::string(300000, ']') + ",";
  EXPECT_THAT(std::string(ParseManifest("x", text.insert(at, arrays)).status().message()),
              HasSubstr("nested too deeply"));
  EXPECT_FALSE(ParseManifest("x", std::string(500000, '[')).ok());
}

TEST(Manifest, DamagedTextNeverCrashes) {
  const std::string text = SerializeManifest(Full());
  for (size_t size = 0; size + 2 < text.size(); ++size) {
    EXPECT_FALSE(ParseManifest("x", text.substr(0, size)).ok());
  }
  std::mt19937 bits(3);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = text;
    for (uint32_t i = 1 + bits() % 3; i-- > 0;) {
      damaged[bits() % damaged.size()] =
          static_cast<char>(bits() % 2 ? bits() : "09{}[]\",:-e."[bits() % 12]);
    }
    const auto parsed = ParseManifest("x", damaged);
    if (parsed.ok()) {
      EXPECT_TRUE(ParseManifest("x", SerializeManifest(*parsed)).ok());
    }
  }
}

TEST(Manifest, TextThatIsNotUtf8IsWrittenAsReplacements) {
  Manifest manifest = Full();
  manifest.chat_template = "{user}\xff";
  const auto parsed = ParseManifest("x", SerializeManifest(manifest));
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->chat_template, "{user}\xEF\xBF\xBD");
}

}  // namespace
}  // namespace dreamstate::repository
