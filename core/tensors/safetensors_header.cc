#include "core/tensors/safetensors_header.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "core/base/strings.h"
#include "core/tensors/safetensors_dtypes.h"
#include "nlohmann/json.hpp"

namespace dreamstate::tensors {
namespace {

// Untrusted text for a message: bounded and printable.
std::string Quoted(std::string_view text) {
  constexpr size_t kShown = 128;
  return StrCat("\"", absl::Utf8SafeCHexEscape(AbslView(text.substr(0, kShown))),
                text.size() > kShown ? "…" : "", "\"");
}

// Takes the parser's events and accepts exactly
//   {"__metadata__": {text: text}, name: {"dtype": text, "shape": [n...], "data_offsets": [n, n]},
//   ...}
// The library's own tree would keep only the last of two equal keys and hold much more memory.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderHandler(std::string source) : source_(std::move(source)) {}

  SafetensorsHeader header;
  absl::Status status;

  bool null() override { return Value("null"); }
  bool boolean(bool) override { return Value("a boolean"); }
  bool number_integer(number_integer_t value) override { return Value(StrCat(value)); }
  bool number_float(number_float_t, const string_t& text) override { return Value(Quoted(text)); }
  bool binary(binary_t&) override { return Value("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return Value(StrCat(value));
      }
      if (entry_.shape.size() == kMaxTensorRank) {
        return Refuse(StrCat("expected at most ", kMaxTensorRank, " dimensions, found more"));
      }
      entry_.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (offsets_ == 2) return Refuse("data_offsets: expected 2 numbers, found more");
      (offsets_++ == 0 ? entry_.begin : entry_.end) = value;
      return true;
    }
    return Value(StrCat(value));
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) {
      header.metadata[key_] = std::move(text);
      return true;
    }
    if (place_ != Place::kDType) return Value(Quoted(text));
    for (const SafetensorsDType& known : kSafetensorsDTypes) {
      if (known.name == text) {
        entry_.dtype = known.dtype;
        place_ = Place::kEntry;
        return true;
      }
    }
    return Refuse(StrCat(
        "dtype: expected one of ",
        absl::StrJoin(kSafetensorsDTypes, ", ",
                      [](std::string* out, const auto& known) { StrAppend(out, known.name); }),
        "; found ", Quoted(text)));
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kNewMetadata) {
      place_ = Place::kMetadata;
    } else if (place_ == Place::kNewEntry) {
      place_ = Place::kEntry;
    } else {
      return Value("an object");
    }
    return true;
  }

  bool key(string_t& text) override {
    if (text.size() > kMaxTensorNameBytes) {
      return Refuse(
          StrCat("expected names of at most ", kMaxTensorNameBytes, " bytes, found ", text.size()));
    }
    if (place_ == Place::kTop) return TopKey(text);
    if (place_ == Place::kMetadata) {
      if (header.metadata.contains(text)) {
        return Refuse(StrCat("key ", Quoted(text), ": expected once, found twice"));
      }
      key_ = std::move(text);
      return true;
    }
    return EntryKey(text);
  }

  bool end_object() override {
    if (place_ == Place::kEntry) {
      if (!has_dtype_ || !has_shape_ || !has_offsets_) {
        return Refuse(StrCat("expected dtype, shape and data_offsets, found no ",
                             !has_dtype_   ? "dtype"
                             : !has_shape_ ? "shape"
                                           : "data_offsets"));
      }
      header.entries.push_back(std::move(entry_));
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    tensor_.reset();
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kNewShape) {
      place_ = Place::kShape;
    } else if (place_ == Place::kNewOffsets) {
      place_ = Place::kOffsets;
    } else {
      return Value("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && offsets_ != 2) {
      return Refuse(StrCat("data_offsets: expected 2 numbers, found ", offsets_));
    }
    place_ = Place::kEntry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    status =
        absl::InvalidArgumentError(StrCat("header: expected JSON, found a syntax error at byte ",
                                          position, " of it (", source_, ")"));
    return false;
  }

 private:
  // Where in the header the parser is.
  enum class Place {
    kStart,
    kTop,
    kNewMetadata,  // behind its key
    kMetadata,
    kNewEntry,
    kEntry,
    kDType,
    kNewShape,
    kShape,
    kNewOffsets,
    kOffsets,
    kEnd,
  };

  bool TopKey(std::string& text) {
    if (text == kSafetensorsMetadataKey) {
      if (std::exchange(has_metadata_, true)) {
        return Refuse("__metadata__: expected once, found twice");
      }
      place_ = Place::kNewMetadata;
      return true;
    }
    tensor_ = text;
    entry_ = {};
    entry_.name = std::move(text);
    has_dtype_ = has_shape_ = has_offsets_ = false;
    offsets_ = 0;
    place_ = Place::kNewEntry;
    return true;
  }

  bool EntryKey(const std::string& text) {
    bool twice = false;
    if (text == "dtype") {
      twice = std::exchange(has_dtype_, true);
      place_ = Place::kDType;
    } else if (text == "shape") {
      twice = std::exchange(has_shape_, true);
      place_ = Place::kNewShape;
    } else if (text == "data_offsets") {
      twice = std::exchange(has_offsets_, true);
      place_ = Place::kNewOffsets;
    } else {
      return Refuse(StrCat("expected dtype, shape and data_offsets, found ", Quoted(text)));
    }
    return !twice || Refuse(StrCat(text, ": expected once, found twice"));
  }

  // A value where another kind belongs.
  bool Value(std::string_view found) {
    const char* expected = "an object";
    if (place_ == Place::kMetadata) expected = "__metadata__ of texts";
    if (place_ == Place::kNewMetadata) expected = "__metadata__ to be an object";
    if (place_ == Place::kDType) expected = "dtype to be a text";
    if (place_ == Place::kNewShape) expected = "shape to be an array";
    if (place_ == Place::kShape) expected = "shape of non-negative integers";
    if (place_ == Place::kNewOffsets) expected = "data_offsets to be an array";
    if (place_ == Place::kOffsets) expected = "data_offsets of non-negative integers";
    return Refuse(StrCat("expected ", expected, ", found ", found));
  }

  bool Refuse(std::string_view problem) {
    status = absl::InvalidArgumentError(
        StrCat(tensor_.has_value() ? StrCat("tensor ", Quoted(*tensor_)) : "header", ": ", problem,
               " (", source_, ")"));
    return false;
  }

  std::string source_;
  Place place_ = Place::kStart;
  std::optional<std::string> tensor_;  // being read
  SafetensorsHeader::Entry entry_{};
  std::string key_;  // of the metadata
  int offsets_ = 0;
  bool has_metadata_ = false;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
};

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(const std::string& source,
                                                         std::string_view json) {
  // The parser would take a NUL for the end of the text and leave the rest unread.
  if (const size_t at = json.find('\0'); at != std::string_view::npos) {
    return absl::InvalidArgumentError(
        StrCat("header: expected JSON, found a NUL at byte ", at, " of it (", source, ")"));
  }
  HeaderHandler handler(source);
  const bool parsed = nlohmann::json::sax_parse(json.begin(), json.end(), &handler);
  if (!handler.status.ok()) return handler.status;
  if (!parsed) {
    return absl::InvalidArgumentError(StrCat("header: expected JSON (", source, ")"));
  }
  return std::move(handler.header);
}

}  // namespace dreamstate::tensors
