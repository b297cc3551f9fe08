#include "core/state/record.h"

#include <cmath>
#include <limits>
#include <random>

#include "core/base/hash.h"
#include "core/base/status.h"
#include "core/tensors/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/state/state_fixtures.h"

namespace dreamstate::state {
namespace {

using ::dreamstate::testing::Difference;
using ::dreamstate::testing::MakeRecord;
using ::testing::HasSubstr;

Record WithIdAndTime(uint64_t seed) {
  Record record = MakeRecord(seed);
  record.id = "01hf7yat00abcdefghjkmnpqrs";
  record.created = absl::FromUnixMicros(1'700'000'000'123'456);
  record.lineage.parents = {"01hf7yat00abcdefghjkmnpqrt", "01hf7yat00abcdefghjkmnpqrv"};
  return record;
}

TEST(Record, ComesBackToTheBit) {
  Record record = WithIdAndTime(1);
  record.state.wkv[0] = -0.0f;
  record.state.wkv[1] = std::numeric_limits<float>::denorm_min();
  record.state.wkv[2] = -std::numeric_limits<float>::denorm_min();
  record.state.wkv[3] = std::numeric_limits<float>::max();
  record.state.shift[0] = -0.0f;
  record.last_hidden[0] = -0.0f;
  record.lineage.arguments = {{"text", "äöü \u2603 \"quoted\" \n"}, {"n", 1.5}, {"deep", {1, {2}}}};
  const auto bytes = SerializeRecord(record);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto parsed = ParseRecord("a file", *bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(Difference(record, *parsed), "");
  EXPECT_EQ(parsed->id, record.id);
  EXPECT_EQ(parsed->created, record.created);
}

TEST(Record, ComesBackWithoutItsOptionalParts) {
  Record record = WithIdAndTime(2);
  record.last_hidden.clear();
  record.lineage = {};
  const auto parsed = ParseRecord("a file", SerializeRecord(record).value());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(Difference(record, *parsed), "");
}

TEST(Record, IsASafetensorsFileThatExplainsItself) {
  const Record record = WithIdAndTime(3);
  const std::string bytes = SerializeRecord(record).value();
  const auto set = tensors::ParseSafetensors("a file", std::as_bytes(std::span(bytes)), nullptr);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->Find("wkv")->shape, (tensors::Shape{2, 2, 4, 4}));
  EXPECT_EQ(set->Find("shift")->shape, (tensors::Shape{2, 2, 8}));
  EXPECT_EQ(set->Find("last_hidden")->shape, (tensors::Shape{8}));
  const auto json = nlohmann::json::parse(set->metadata().at("dreamstate"));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["model"], "tiny");
  EXPECT_EQ(json["created"], "2023-11-14T22:13:20.123456000+00:00");
  EXPECT_EQ(json["lineage"]["parents"].size(), 2u);
  EXPECT_EQ(set->metadata().at("dreamstate_sha256"), Sha256Hex(set->metadata().at("dreamstate")));
}

TEST(Record, OneFlippedBitIsFoundWhereverItIs) {
  const std::string bytes = SerializeRecord(WithIdAndTime(4)).value();
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      const auto parsed = ParseRecord("the file", damaged);
      ASSERT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss)
          << "byte " << i << " bit " << bit << ": " << bytes.substr(i < 20 ? 0 : i - 20, 40);
      ASSERT_THAT(std::string(parsed.status().message()), HasSubstr("the file"));
    }
  }
}

TEST(Record, EveryTruncationAndExtensionIsFound) {
  const std::string bytes = SerializeRecord(WithIdAndTime(5)).value();
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_TRUE(absl::IsDataLoss(ParseRecord("f", bytes.substr(0, size)).status())) << size;
  }
  EXPECT_TRUE(absl::IsDataLoss(ParseRecord("f", bytes + '\0').status()));
}

TEST(Record, RandomBytesAndRandomChangesAreDataLossAndNothingWorse) {
  std::mt19937 random(6);
  const std::string bytes = SerializeRecord(WithIdAndTime(6)).value();
  for (int round = 0; round < 3000; ++round) {
    std::string hostile = bytes;
    if (round % 3 == 0) hostile.resize(random() % 200);
    for (int change = 0; change < 1 + round % 20 && !hostile.empty(); ++change) {
      hostile[random() % std::min<size_t>(hostile.size(), 1500)] = static_cast<char>(random());
    }
    if (hostile == bytes) continue;
    ASSERT_TRUE(absl::IsDataLoss(ParseRecord("f", hostile).status())) << round;
  }
}

// A file whose checksums fit, made by somebody else.
std::string Forge(nlohmann::json json, const Record& record,
                  const std::map<std::string, std::string>& more_metadata = {}) {
  const Shape& shape = record.state.shape;
  const std::vector<tensors::Tensor> tensors = {
      {"shift",
       tensors::DType::kF32,
       {shape.layers, 2, shape.width},
       std::as_bytes(std::span(record.state.shift))},
      {"wkv",
       tensors::DType::kF32,
       {shape.layers, shape.heads, shape.head_size, shape.head_size},
       std::as_bytes(std::span(record.state.wkv))}};
  Sha256 sha;
  for (const auto& tensor : tensors) {
    sha.Update(tensor.name + "\n" + std::to_string(tensor.data.size()) + "\n");
    sha.Update(tensor.data);
  }
  if (json.is_object()) json["tensors_sha256"] = sha.HexDigest();
  std::map<std::string, std::string> metadata = more_metadata;
  metadata["dreamstate"] = json.dump();
  metadata["dreamstate_sha256"] = Sha256Hex(json.dump());
  return tensors::SerializeSafetensors(tensors, metadata).value();
}

class ForgedRecord : public ::testing::Test {
 protected:
  ForgedRecord() {
    record_.last_hidden.clear();
    record_.lineage.kept_tokens.clear();
    const std::string bytes = SerializeRecord(record_).value();
    json_ = nlohmann::json::parse(
        tensors::ParseSafetensors("f", std::as_bytes(std::span(bytes)), nullptr)
            ->metadata()
            .at("dreamstate"));
  }
  std::string ErrorOf(const nlohmann::json& json) {
    const auto parsed = ParseRecord("f", Forge(json, record_));
    if (parsed.ok()) return "parsed";
    return absl::IsDataLoss(parsed.status()) ? std::string(parsed.status().message())
                                             : "other code";
  }
  Record record_ = WithIdAndTime(7);
  nlohmann::json json_;
};

TEST_F(ForgedRecord, FitsWhenNothingIsChanged) { EXPECT_EQ(ErrorOf(json_), "parsed"); }

TEST_F(ForgedRecord, IsRefusedForEachMissingOrMistypedMember) {
  EXPECT_THAT(ErrorOf(nlohmann::json::array()), HasSubstr("object"));
  for (const auto& [name, value] : json_.items()) {
    if (name == "tensors_sha256") continue;
    nlohmann::json changed = json_;
    changed.erase(name);
    EXPECT_THAT(ErrorOf(changed), HasSubstr(name));
    changed[name] = nlohmann::json::array({nlohmann::json::object()});
    EXPECT_THAT(ErrorOf(changed), HasSubstr("expected")) << name;
  }
  for (const char* group : {"lineage", "shape"}) {
    for (const auto& [name, value] : json_[group].items()) {
      nlohmann::json changed = json_;
      changed[group].erase(name);
      EXPECT_THAT(ErrorOf(changed), HasSubstr(std::string(group) + "." + name));
      changed[group][name] = true;
      EXPECT_THAT(ErrorOf(changed), HasSubstr("expected")) << name;
    }
  }
}

TEST_F(ForgedRecord, IsRefusedForValuesOutOfRange) {
  const auto with = [this](const char* pointer, nlohmann::json value) {
    nlohmann::json changed = json_;
    changed[nlohmann::json::json_pointer(pointer)] = std::move(value);
    return ErrorOf(changed);
  };
  EXPECT_THAT(with("/schema", 2), HasSubstr("newer version"));
  EXPECT_THAT(with("/schema", 0), HasSubstr("schema"));
  EXPECT_THAT(with("/token_count", -1), HasSubstr("token_count"));
  EXPECT_THAT(with("/token_count", 18446744073709551615u), HasSubstr("token_count"));
  EXPECT_THAT(with("/token_count", 1.5), HasSubstr("token_count"));
  EXPECT_THAT(with("/created", "yesterday"), HasSubstr("created"));
  EXPECT_THAT(with("/created", "infinite-future"), HasSubstr("created"));
  EXPECT_THAT(with("/fingerprint", "00"), HasSubstr("fingerprint"));
  EXPECT_THAT(with("/shape/layers", 3), HasSubstr("shift"));
  EXPECT_THAT(with("/shape/layers", 2147483647), HasSubstr("shift"));
  EXPECT_THAT(with("/shape/width", 2147483648), HasSubstr("width"));
  EXPECT_THAT(with("/shape/heads", 3), HasSubstr("width"));
  EXPECT_THAT(with("/lineage/parents", {1}), HasSubstr("parents"));
  nlohmann::json deep = nlohmann::json::object();
  for (int i = 0; i < 100000; ++i) deep = nlohmann::json::array({std::move(deep)});
  // Printing it would recurse as deeply, so the text is put together by hand.
  std::string text = json_.dump();
  const size_t at = text.find("\"arguments\":{") + 12;
  text.replace(at, text.find('}', at) + 1 - at,
               std::string(100000, '[') + std::string(100000, ']'));
  const std::string bytes = tensors::SerializeSafetensors(
                                {}, {{"dreamstate", text}, {"dreamstate_sha256", Sha256Hex(text)}})
                                .value();
  EXPECT_THAT(std::string(ParseRecord("f", bytes).status().message()), HasSubstr("deep"));
}

TEST_F(ForgedRecord, IsRefusedForValuesThatAreNotFinite) {
  record_.state.wkv[5] = std::nanf("");
  EXPECT_THAT(ErrorOf(json_), HasSubstr("layer 0, head 0, value 1, key 1"));
}

TEST_F(ForgedRecord, IsRefusedForMetadataThatIsNotARecords) {
  EXPECT_TRUE(
      absl::IsDataLoss(ParseRecord("f", Forge(json_, record_, {{"comment", "hello"}})).status()));
}

TEST(Record, RefusesToWriteWhatItCouldNotRead) {
  const auto field_of = [](const std::function<void(Record&)>& change) {
    Record record = WithIdAndTime(8);
    change(record);
    const absl::Status status = SerializeRecord(record).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return DetailsOf(status).field.value_or("");
  };
  EXPECT_EQ(field_of([](Record& r) { r.state.wkv[17] = std::nanf(""); }), "state.wkv");
  EXPECT_EQ(field_of([](Record& r) { r.state.shift[1] = INFINITY; }), "state.shift");
  EXPECT_EQ(field_of([](Record& r) { r.state.wkv.pop_back(); }), "state.wkv");
  EXPECT_EQ(field_of([](Record& r) { r.state.shape.heads = 3; }), "state.shape");
  EXPECT_EQ(field_of([](Record& r) { r.last_hidden.push_back(0); }), "last_hidden");
  EXPECT_EQ(field_of([](Record& r) { r.last_hidden[2] = NAN; }), "last_hidden");
  EXPECT_EQ(field_of([](Record& r) { r.model.clear(); }), "model");
  EXPECT_EQ(field_of([](Record& r) { r.fingerprint.resize(63); }), "fingerprint");
  EXPECT_EQ(field_of([](Record& r) { r.token_count = -1; }), "token_count");
  EXPECT_EQ(field_of([](Record& r) { r.lineage.arguments["x"] = NAN; }), "lineage.arguments");
  EXPECT_EQ(field_of([](Record& r) { r.lineage.arguments = 3; }), "lineage.arguments");
  EXPECT_EQ(field_of([](Record& r) {
              for (int i = 0; i < 100; ++i) r.lineage.arguments = {{"x", r.lineage.arguments}};
            }),
            "lineage.arguments");
  EXPECT_EQ(field_of([](Record& r) { r.model.push_back(static_cast<char>(0xFF)); }), "");
}

TEST(Record, TokensAreHashedAsLittleEndianIntegers) {
  EXPECT_EQ(TokensSha256({1, -2}), Sha256Hex(std::string("\x01\0\0\0\xfe\xff\xff\xff", 8)));
}

}  // namespace
}  // namespace dreamstate::state
