// Rows that the tables of several requests have in common.
#pragma once

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "dreamstate/v1/decode_service.pb.h"
#include "tests/end_to_end/malformed_fixture.h"

namespace dreamstate::testing {

template <typename Request, typename Set>
std::vector<Row<Request>> BadNames(const std::string& field, Set set) {
  std::vector<Row<Request>> rows;
  for (const auto& [kind, name] :
       std::vector<std::pair<const char*, std::string>>{{"no name", ""},
                                                        {"no collection", "abc"},
                                                        {"no id", "states/"},
                                                        {"other collection", "models/tiny"},
                                                        {"path", "states/../models"},
                                                        {"upper case", "states/ABC"},
                                                        {"NUL", std::string("states/a\0b", 10)},
                                                        {"huge", "states/" + kLongName}}) {
    rows.push_back({kind, [set, name = name](Request& r) { set(r, name); }, field});
  }
  rows.push_back({"unknown", [set](Request& r) { set(r, "states/00000000000000000000000000"); }, "",
                  grpc::StatusCode::NOT_FOUND});
  return rows;
}

// What Decode and Score have in common.
template <typename Request>
std::vector<Row<Request>> BadSources() {
  const auto tensors = [](Request& r) {
    v1::StateTensors* t = r.mutable_source()->mutable_tensors();
    t->mutable_shape()->set_layers(1);
    t->mutable_shape()->set_width(64);
    t->mutable_shape()->set_heads(1);
    t->mutable_shape()->set_head_size(64);
    t->set_backbone_fingerprint(std::string(64, 'a'));
    t->set_shift(std::string(2 * 64 * 4, '\0'));
    t->set_wkv(std::string(64 * 64 * 4, '\0'));
    return t;
  };
  return {
      {"malformed model", [](auto& r) { r.set_model("tiny"); }, "model"},
      {"huge model", [](auto& r) { r.set_model("models/" + kLongName); }, "model"},
      {"unknown model", [](auto& r) { r.set_model("models/unknown"); }, "",
       grpc::StatusCode::NOT_FOUND},
      {"empty state", [](auto& r) { r.mutable_source()->set_state(""); }, "source.state"},
      {"malformed state", [](auto& r) { r.mutable_source()->set_state("x"); }, "source.state"},
      {"unknown state",
       [](auto& r) { r.mutable_source()->set_state("states/00000000000000000000000000"); }, "",
       grpc::StatusCode::NOT_FOUND},
      {"tensors without a shape", [](auto& r) { r.mutable_source()->mutable_tensors(); },
       "source.tensors.shape"},
      {"absurd shape",
       [=](auto& r) {
         auto* shape = tensors(r)->mutable_shape();
         shape->set_layers(std::numeric_limits<int32_t>::max());
         shape->set_width(std::numeric_limits<int32_t>::max());
         shape->set_heads(std::numeric_limits<int32_t>::max());
         shape->set_head_size(1);
       },
       "source.tensors.shape"},
      {"negative shape", [=](auto& r) { tensors(r)->mutable_shape()->set_layers(-1); },
       "source.tensors.shape"},
      {"short shift", [=](auto& r) { tensors(r)->mutable_shift()->resize(5); },
       "source.tensors.shift"},
      {"long wkv", [=](auto& r) { tensors(r)->mutable_wkv()->push_back('x'); },
       "source.tensors.wkv"},
      {"NaN in wkv", [=](auto& r) { std::memset(tensors(r)->mutable_wkv()->data(), 0xff, 4); },
       "source.tensors.wkv"},
      {"last hidden", [=](auto& r) { tensors(r)->set_last_hidden("xy"); },
       "source.tensors.last_hidden"},
      {"fingerprint", [=](auto& r) { tensors(r)->set_backbone_fingerprint("xy"); },
       "source.tensors.backbone_fingerprint"},
      {"tokens read", [=](auto& r) { tensors(r)->set_token_count(-1); },
       "source.tensors.token_count"},
      {"tensors of another model", [=](auto& r) { tensors(r); }, "",
       grpc::StatusCode::FAILED_PRECONDITION},
  };
}

template <typename Request>
std::vector<Row<Request>> BadTexts(const std::string& field, v1::TextInput* (Request::*text)()) {
  return {
      {"token out of range",
       [=](auto& r) {
         (r.*text)()->mutable_tokens()->add_ids(1);
         (r.*text)()->mutable_tokens()->add_ids(256);
       },
       field + ".tokens.ids[1]"},
      {"negative token", [=](auto& r) { (r.*text)()->mutable_tokens()->add_ids(-1); },
       field + ".tokens.ids[0]"},
      {"reserved token in text", [=](auto& r) { (r.*text)()->set_text(std::string("a\0b", 3)); },
       field + ".text"},
      {"reserved token in bytes", [=](auto& r) { (r.*text)()->set_raw(std::string("a\0b", 3)); },
       field + ".raw"},
      {"text over the limit",
       [=](auto& r) { (r.*text)()->set_text(std::string((1 << 20) + 1, 'x')); }, field + ".text"},
  };
}

}  // namespace dreamstate::testing
