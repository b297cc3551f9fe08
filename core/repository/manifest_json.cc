// Manifests as JSON. What is read is untrusted: every field's type and range is checked, unknown
// fields are left alone.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_join.h"
#include "core/base/json.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/layout.h"
#include "core/repository/manifest.h"

namespace dreamstate::repository {
namespace {

using nlohmann::json;

constexpr int kSchema = 1;
// Deeper nesting serves nobody and costs stack when it is written again.
constexpr int kMaxDepth = 32;
constexpr size_t kMaxSelfTestTokens = 65536;
constexpr std::string_view kKinds[] = {"backbone", "state_dit", "hybrid"};
constexpr std::string_view kTokenizers[] = {"byte", "world"};

std::string OneOf(std::span<const std::string_view> names) {
  return StrCat("one of ", absl::StrJoin(names.begin(), names.end(), ", ",
                                         [](std::string* out, std::string_view name) {
                                           StrAppend(out, name);
                                         }));
}

// What was found, for a message: bounded.
std::string Shown(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return StrCat("an array of ", value.size());
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  constexpr size_t kShown = 100;
  if (text.size() > kShown) text = text.substr(0, kShown) + "…";
  return text;
}

// One object of the manifest, with its place for messages.
class Fields {
 public:
  Fields(std::string_view source, std::string path, const json& object)
      : source_(source), path_(std::move(path)), object_(object) {}

  absl::Status Refuse(std::string_view field, std::string_view expected) const {
    const auto found = object_.find(std::string(field));
    return absl::InvalidArgumentError(StrCat(path_, field, ": expected ", expected, ", found ",
                                             found == object_.end() ? "nothing" : Shown(*found),
                                             " (", source_, ")"));
  }

  absl::Status Text(const char* field, std::string* out) const {
    const auto found = object_.find(field);
    if (found == object_.end() || !found->is_string()) return Refuse(field, "a text");
    *out = found->get<std::string>();
    return absl::OkStatus();
  }

  absl::Status TextOf(const char* field, std::span<const std::string_view> known,
                      std::string* out) const {
    DS_RETURN_IF_ERROR(Text(field, out));
    if (std::find(known.begin(), known.end(), *out) == known.end()) {
      return Refuse(field, OneOf(known));
    }
    return absl::OkStatus();
  }

  absl::Status Digest(const char* field, std::string* out) const {
    DS_RETURN_IF_ERROR(Text(field, out));
    return IsDigest(*out) ? absl::OkStatus() : Refuse(field, "64 hexadecimal digits");
  }

  template <typename T>
  absl::Status Integer(const char* field, T least, T* out) const {
    const auto found = object_.find(field);
    if (found == object_.end() || !Fits(*found, least)) {
      return Refuse(
          field, StrCat("an integer of at least ", least, " that fits ", 8 * sizeof(T), " bits"));
    }
    *out = found->get<T>();
    return absl::OkStatus();
  }

  template <typename T>
  absl::Status Integers(const char* field, T least, size_t at_least, size_t at_most,
                        std::vector<T>* out) const {
    const auto found = object_.find(field);
    const bool good = found != object_.end() && found->is_array() && found->size() >= at_least &&
                      found->size() <= at_most &&
                      std::all_of(found->begin(), found->end(),
                                  [least](const json& value) { return Fits(value, least); });
    if (!good) {
      return Refuse(field, StrCat(at_least, " to ", at_most, " integers of at least ", least));
    }
    *out = found->get<std::vector<T>>();
    return absl::OkStatus();
  }

  absl::Status Number(const char* field, double* out) const {
    const auto found = object_.find(field);
    if (found == object_.end() || !found->is_number()) return Refuse(field, "a number");
    *out = found->get<double>();
    return absl::OkStatus();
  }

  // An object; a missing one is empty.
  absl::Status Object(const char* field, json* out) const {
    const auto found = object_.find(field);
    *out = json::object();
    if (found == object_.end()) return absl::OkStatus();
    if (!found->is_object()) return Refuse(field, "an object");
    *out = *found;
    return absl::OkStatus();
  }

 private:
  template <typename T>
  static bool Fits(const json& value, T least) {
    if (value.is_number_unsigned()) {
      return value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<T>::max()) &&
             static_cast<int64_t>(value.get<uint64_t>()) >= int64_t{least};
    }
    return value.is_number_integer() && value.get<int64_t>() >= int64_t{least} &&
           value.get<int64_t>() <= int64_t{std::numeric_limits<T>::max()};
  }

  std::string_view source_;
  std::string path_;
  const json& object_;
};

absl::Status ReadComponents(std::string_view source, const json& root, Manifest* manifest) {
  const Fields fields(source, "", root);
  const auto list = root.find("components");
  if (list == root.end() || !list->is_array() || list->empty()) {
    return fields.Refuse("components", "an array of at least one");
  }
  if (list->size() > std::size(kKinds)) return fields.Refuse("components", "each kind once");
  for (size_t i = 0; i < list->size(); ++i) {
    const json& entry = (*list)[i];
    const std::string path = StrCat("components[", i, "].");
    if (!entry.is_object()) return fields.Refuse("components", "an array of objects");
    const Fields component_fields(source, path, entry);
    Component component;
    DS_RETURN_IF_ERROR(component_fields.TextOf("kind", kKinds, &component.kind));
    DS_RETURN_IF_ERROR(component_fields.Digest("digest", &component.digest));
    DS_RETURN_IF_ERROR(component_fields.Integer<int64_t>("bytes", 1, &component.bytes));
    DS_RETURN_IF_ERROR(component_fields.Digest("file_sha256", &component.file_sha256));
    DS_RETURN_IF_ERROR(component_fields.Object("config", &component.config));
    if ((i == 0) != (component.kind == "backbone")) {
      return component_fields.Refuse("kind", "a backbone first and only once");
    }
    if (manifest->Find(component.kind) != nullptr) {
      return component_fields.Refuse("kind", "each kind once");
    }
    manifest->components.push_back(std::move(component));
  }
  return absl::OkStatus();
}

absl::Status ReadSelfTest(std::string_view source, const json& root, SelfTest* test) {
  json object;
  const Fields fields(source, "", root);
  DS_RETURN_IF_ERROR(fields.Object("self_test", &object));
  const Fields test_fields(source, "self_test.", object);
  DS_RETURN_IF_ERROR(
      test_fields.Integers<int32_t>("tokens", 0, 2, kMaxSelfTestTokens, &test->tokens));
  DS_RETURN_IF_ERROR(test_fields.Number("expected_nll", &test->expected_nll));
  if (!std::isfinite(test->expected_nll) || test->expected_nll < 0) {
    return test_fields.Refuse("expected_nll", "a number of at least 0");
  }
  DS_RETURN_IF_ERROR(test_fields.Object("tolerance", &test->tolerance));
  for (const auto& [format, value] : test->tolerance.items()) {
    // More than a nat a token would let any model pass.
    if (!value.is_number() || !(value.get<double>() > 0) ||
        value.get<double>() > static_cast<double>(test->tokens.size())) {
      return test_fields.Refuse("tolerance",
                                "a positive number for each weight format, at most 1 a token");
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string SerializeManifest(const Manifest& manifest) {
  json components = json::array();
  for (const Component& component : manifest.components) {
    components.push_back({{"kind", component.kind},
                          {"digest", component.digest},
                          {"bytes", component.bytes},
                          {"file_sha256", component.file_sha256},
                          {"config", component.config}});
  }
  // In the order in which a person reads it.
  const nlohmann::ordered_json root = {
      {"schema", manifest.schema},
      {"model", manifest.model},
      {"version", manifest.version},
      {"created", absl::FormatTime(absl::RFC3339_full, manifest.created, absl::UTCTimeZone())},
      {"components", components},
      {"parents", manifest.parents},
      {"tokenizer", manifest.tokenizer},
      {"end_token", manifest.end_token},
      {"separator_token", manifest.separator_token},
      {"chat_template", manifest.chat_template},
      {"trainer_step", manifest.trainer_step},
      {"metrics", manifest.metrics},
      {"self_test",
       {{"tokens", manifest.self_test.tokens},
        {"expected_nll", manifest.self_test.expected_nll},
        {"tolerance", manifest.self_test.tolerance}}},
  };
  return root.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

absl::StatusOr<Manifest> ParseManifest(std::string_view source, std::string_view text) {
  if (text.size() > kMaxManifestBytes) {
    return absl::InvalidArgumentError(StrCat("manifest: expected at most ", kMaxManifestBytes,
                                             " bytes, found ", text.size(), " (", source, ")"));
  }
  DS_ASSIGN_OR_RETURN(const json root,
                      ParseJsonObject(StrCat("manifest ", source), text, kMaxDepth));
  const Fields fields(source, "", root);
  Manifest manifest;
  DS_RETURN_IF_ERROR(fields.Integer<int32_t>("schema", 1, &manifest.schema));
  if (manifest.schema != kSchema) {
    return fields.Refuse("schema", StrCat(kSchema, " (a later one needs a later release)"));
  }
  DS_RETURN_IF_ERROR(fields.Text("model", &manifest.model));
  if (!ValidateModelName(manifest.model).ok()) return fields.Refuse("model", "a model name");
  DS_RETURN_IF_ERROR(fields.Integer<int64_t>("version", 1, &manifest.version));
  DS_RETURN_IF_ERROR(ReadComponents(source, root, &manifest));
  constexpr size_t kMaxParents = 1000;
  DS_RETURN_IF_ERROR(fields.Integers<int64_t>("parents", 1, 0, kMaxParents, &manifest.parents));
  DS_RETURN_IF_ERROR(fields.TextOf("tokenizer", kTokenizers, &manifest.tokenizer));
  DS_RETURN_IF_ERROR(fields.Integer<int32_t>("end_token", 0, &manifest.end_token));
  DS_RETURN_IF_ERROR(fields.Integer<int32_t>("separator_token", 0, &manifest.separator_token));
  DS_RETURN_IF_ERROR(fields.Text("chat_template", &manifest.chat_template));
  if (!manifest.chat_template.empty() &&
      manifest.chat_template.find("{user}") == std::string::npos) {
    return fields.Refuse("chat_template", "nothing, or a text with {user} in it");
  }
  DS_RETURN_IF_ERROR(fields.Integer<int64_t>("trainer_step", 0, &manifest.trainer_step));
  DS_RETURN_IF_ERROR(fields.Object("metrics", &manifest.metrics));
  DS_RETURN_IF_ERROR(ReadSelfTest(source, root, &manifest.self_test));
  std::string created;
  DS_RETURN_IF_ERROR(fields.Text("created", &created));
  std::string ignored;
  // Years that others can read, too: RFC 3339 and protobuf have four digits.
  const absl::Time year_1 = absl::FromCivil(absl::CivilYear(1), absl::UTCTimeZone());
  const absl::Time year_10000 = absl::FromCivil(absl::CivilYear(10000), absl::UTCTimeZone());
  if (!absl::ParseTime(absl::RFC3339_full, created, &manifest.created, &ignored) ||
      manifest.created < year_1 || manifest.created >= year_10000) {
    return fields.Refuse("created", "a time such as 2026-01-31T12:00:00Z");
  }
  return manifest;
}

}  // namespace dreamstate::repository
