#include "core/training/corpus_builder.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/nearest.h"
#include "core/base/random.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/text/tokenizer.h"
#include "core/text/utf8.h"
#include "core/training/corpus.h"
#include "core/training/near_duplicates.h"
#include "core/training/token_file.h"

namespace dreamstate::training {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostFileBytes = size_t{1} << 28;
constexpr std::string_view kSource = "source.json";
// In the order in which near-duplicates are kept.
constexpr Split kOrder[] = {Split::kTest, Split::kValid, Split::kTrain};

struct Piece {
  std::string name;  // the file's path below its label's folder
  std::string text;
  Split split;
};

// 64 bits that depend on what, the document's name and the seed alone.
uint64_t Draw(std::string_view what, std::string_view name, uint64_t seed) {
  const std::string digest = Sha256Hex(StrCat(what, "\n", seed, "\n", name));
  return std::stoull(digest.substr(0, 16), nullptr, 16);
}
double Uniform(std::string_view what, std::string_view name, uint64_t seed) {
  return std::ldexp(static_cast<double>(Draw(what, name, seed) >> 11), -53);
}

// A random piece that begins at a character, at the start of a line where one is near.
std::string Slice(const std::string& text, int64_t size, std::string_view name, uint64_t seed) {
  if (size == 0 || static_cast<int64_t>(text.size()) <= size) return text;
  const double places = static_cast<double>(text.size() - size + 1);
  size_t begin = static_cast<size_t>(Uniform("slice", name, seed) * places);
  constexpr size_t kLine = 400;
  if (begin > 0) {
    const size_t line = text.find('\n', begin - 1);
    if (line != std::string::npos && line - begin < kLine) begin = line + 1;
  }
  const auto continues = [&text](size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
  };
  constexpr int kMostContinuations = 3;
  for (int i = 0; i < kMostContinuations && continues(begin); ++i) ++begin;
  size_t end = std::min(text.size(), begin + size);
  for (int i = 0; i < kMostContinuations && end > begin && continues(end); ++i) --end;
  return text.substr(begin, end - begin);
}

// The regular files below a folder by name, sorted; links are not followed.
absl::StatusOr<std::vector<std::string>> FilesBelow(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error), end;
  for (; !error && it != end; it.increment(error)) {
    if (it->is_regular_file(error) && !it->is_symlink(error)) {
      names.push_back(fs::relative(it->path(), folder, error).string());
    }
  }
  if (error) return absl::InternalError(StrCat(folder, ": ", error.message()));
  std::sort(names.begin(), names.end());
  std::erase(names, std::string(kSource));
  return names;
}

class Builder {
 public:
  Builder(const std::string& from, const CorpusOptions& options)
      : from_(from), options_(options), near_(options.near_duplicate) {}

  absl::StatusOr<LabelReport> ReadLabel(const std::string& label) {
    LabelReport report = {.label = label};
    const bool untrained =
        label.starts_with("x_") ||
        std::count(options_.untrained.begin(), options_.untrained.end(), label) > 0;
    const std::string folder = from_ + "/" + label;
    DS_ASSIGN_OR_RETURN(std::vector<std::string> names, FilesBelow(folder));
    std::sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
      const uint64_t first = Draw("order", label + "/" + a, options_.seed);
      const uint64_t second = Draw("order", label + "/" + b, options_.seed);
      return std::pair(first, a) < std::pair(second, b);
    });
    std::vector<Piece> pieces;
    int64_t bytes = 0;
    for (const std::string& name : names) {
      if (bytes >= options_.label_bytes) break;
      DS_ASSIGN_OR_RETURN(const std::string whole, ReadFile(folder + "/" + name, kMostFileBytes));
      if (static_cast<int64_t>(whole.size()) < options_.min_bytes) {
        ++report.too_short;
        continue;
      }
      const std::string key = label + "/" + name;
      std::string text = Slice(whole, options_.slice_bytes, key, options_.seed);
      if (text.find('\0') != std::string::npos) {
        ++report.with_zero;
        continue;
      }
      if (!seen_.insert(Sha256Hex(text)).second) {
        ++report.duplicates;
        continue;
      }
      bytes += static_cast<int64_t>(text.size());
      pieces.push_back({name, std::move(text), SplitOf(key, untrained)});
    }
    // Documents of test are added first: they stay, and what is like them goes.
    for (const Split split : kOrder) {
      for (Piece& piece : pieces) {
        if (piece.split != split) continue;
        Sketch sketch = MakeSketch(piece.text);
        if (near_.Contains(sketch)) {
          ++report.near_duplicates;
          continue;
        }
        near_.Add(std::move(sketch));
        ++report.documents[static_cast<int>(split)];
        report.bytes[static_cast<int>(split)] += static_cast<int64_t>(piece.text.size());
        kept_[static_cast<int>(split)].push_back({label, std::move(piece)});
      }
    }
    return report;
  }

  // Writes a split's three files; returns their names and hashes.
  absl::StatusOr<nlohmann::json> WriteSplit(const std::string& to, Split split,
                                            const text::Tokenizer& tokenizer) const {
    std::vector<uint16_t> tokens;
    std::vector<int32_t> sizes, encoded;
    std::string lines;
    for (const auto& [label, piece] : kept_[static_cast<int>(split)]) {
      encoded.clear();
      tokenizer.Encode(piece.text, &encoded);
      lines += nlohmann::json({{"label", label},
                               {"name", piece.name},
                               {"begin", tokens.size()},
                               {"tokens", encoded.size()}})
                   .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
               "\n";
      tokens.insert(tokens.end(), encoded.begin(), encoded.end());
      tokens.push_back(0);
      sizes.push_back(static_cast<int32_t>(encoded.size() + 1));
    }
    const std::string stem = StrCat(to, "/", SplitName(split));
    DS_RETURN_IF_ERROR(WriteTokenFile(stem, tokens, sizes));
    DS_RETURN_IF_ERROR(WriteFileAtomically(stem + ".documents.jsonl", lines));
    Sha256 hash;
    hash.Update(std::as_bytes(std::span(tokens)));
    return nlohmann::json({{"documents", sizes.size()},
                           {"tokens", tokens.size()},
                           {"bin_sha256", hash.HexDigest()},
                           {"documents_sha256", Sha256Hex(lines)}});
  }

 private:
  Split SplitOf(const std::string& key, bool untrained) const {
    const double train = untrained ? 0.0 : 1.0 - options_.valid_share - options_.test_share;
    const double heldout = options_.valid_share + options_.test_share;
    const double valid = untrained ? options_.valid_share / heldout : options_.valid_share;
    const double draw = Uniform("split", key, options_.seed);
    if (draw < train) return Split::kTrain;
    return draw < train + valid ? Split::kValid : Split::kTest;
  }

  const std::string from_;
  const CorpusOptions options_;
  std::set<std::string> seen_;
  NearDuplicateIndex near_;
  std::vector<std::pair<std::string, Piece>> kept_[3];
};

absl::Status CheckOptions(const CorpusOptions& options) {
  const double heldout = options.valid_share + options.test_share;
  if (!(options.valid_share > 0 && options.test_share > 0 && heldout < 1)) {
    return absl::InvalidArgumentError(
        StrCat("shares: expected valid and test above 0 and below 1 together, found ",
               options.valid_share, " and ", options.test_share));
  }
  if (options.slice_bytes < 0 || options.min_bytes < 1 || options.label_bytes < 1) {
    return absl::InvalidArgumentError("sizes in bytes: expected numbers above 0");
  }
  if (!(options.near_duplicate > 0 && options.near_duplicate <= 1)) {
    return absl::InvalidArgumentError(
        StrCat("near duplicates: expected a share in (0, 1], found ", options.near_duplicate));
  }
  return absl::OkStatus();
}

absl::Status CheckLabels(const std::string& from, const std::vector<std::string>& labels,
                         const CorpusOptions& options) {
  if (labels.empty()) {
    return absl::InvalidArgumentError(StrCat(from, ": expected a folder a label, found none"));
  }
  for (const std::string& label : labels) {
    if (!text::IsValidUtf8(label)) {
      return absl::InvalidArgumentError(StrCat(from, "/", absl::Utf8SafeCHexEscape(AbslView(label)),
                                               ": expected a label's folder to be named in UTF-8"));
    }
  }
  for (const std::string& name : options.untrained) {
    if (std::find(labels.begin(), labels.end(), name) == labels.end()) {
      return absl::InvalidArgumentError(StrCat("untrained: expected labels, found \"", name,
                                               "\"; did you mean \"", Nearest(name, labels),
                                               "\"?"));
    }
  }
  return absl::OkStatus();
}

std::string Card(const nlohmann::json& card) {
  std::string text =
      "# Corpus\n\n| label | documents (train / valid / test) | bytes | source | version | "
      "licence |\n|---|---|---|---|---|---|\n";
  for (const nlohmann::json& label : card.at("labels")) {
    const auto source = [&label](const char* field) {
      const auto& found = label.at("source");
      return found.contains(field) && found.at(field).is_string()
                 ? found.at(field).get<std::string>()
                 : std::string("not given");
    };
    const auto& documents = label.at("documents");
    int64_t bytes = 0;
    for (const auto& [split, count] : label.at("bytes").items()) bytes += count.get<int64_t>();
    StrAppend(&text, "| ", label.at("label").get<std::string>(), " | ",
              documents.at("train").get<int64_t>(), " / ", documents.at("valid").get<int64_t>(),
              " / ", documents.at("test").get<int64_t>(), " | ", bytes, " | ", source("source"),
              " | ", source("version"), " | ", source("licence"), " |\n");
  }
  StrAppend(&text, "\nHow it was made, hashes of its files, and what was left out: card.json.\n");
  return text;
}

}  // namespace

absl::StatusOr<std::vector<LabelReport>> BuildCorpus(
    const std::string& from, const std::string& to, const CorpusOptions& options,
    const std::function<void(const std::string&, int64_t, int64_t)>& progress) {
  DS_RETURN_IF_ERROR(CheckOptions(options));
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<const text::Tokenizer> tokenizer,
                      text::MakeTokenizer(options.tokenizer));
  DS_RETURN_IF_ERROR(MakeDirectories(to));
  DS_ASSIGN_OR_RETURN(const std::vector<std::string> there, ListDirectory(to));
  if (!there.empty()) {
    return absl::FailedPreconditionError(
        StrCat(to, ": expected an empty directory, found ", there.front()));
  }
  DS_ASSIGN_OR_RETURN(const std::vector<std::string> entries, ListDirectory(from));
  std::vector<std::string> folders;
  for (const std::string& entry : entries) {
    std::error_code error;
    if (fs::is_directory(from + "/" + entry, error)) folders.push_back(entry);
  }
  DS_RETURN_IF_ERROR(CheckLabels(from, folders, options));
  Builder builder(from, options);
  std::vector<LabelReport> reports;
  nlohmann::json labels = nlohmann::json::array();
  nlohmann::json card = {{"options",
                          {{"tokenizer", options.tokenizer},
                           {"slice_bytes", options.slice_bytes},
                           {"min_bytes", options.min_bytes},
                           {"label_bytes", options.label_bytes},
                           {"valid_share", options.valid_share},
                           {"test_share", options.test_share},
                           {"near_duplicate", options.near_duplicate},
                           {"seed", options.seed}}},
                         {"labels", nlohmann::json::array()}};
  for (const std::string& label : folders) {
    DS_ASSIGN_OR_RETURN(const LabelReport report, builder.ReadLabel(label));
    int64_t documents = 0, bytes = 0;
    nlohmann::json by_split, bytes_by_split;
    for (const Split split : {Split::kTrain, Split::kValid, Split::kTest}) {
      const int s = static_cast<int>(split);
      documents += report.documents[s];
      bytes += report.bytes[s];
      by_split[std::string(SplitName(split))] = report.documents[s];
      bytes_by_split[std::string(SplitName(split))] = report.bytes[s];
    }
    if (progress) progress(label, documents, bytes);
    if (documents == 0) {
      return absl::InvalidArgumentError(StrCat(
          from, "/", label, ": expected files to keep, found none: ", report.too_short,
          " shorter than ", options.min_bytes, " bytes, ", report.with_zero, " with a byte 0, ",
          report.duplicates, " seen before, ", report.near_duplicates, " much like others"));
    }
    nlohmann::json source = nlohmann::json::object();
    if (const auto text = ReadFile(StrCat(from, "/", label, "/", kSource), 1 << 20); text.ok()) {
      constexpr int kDeepest = 32;
      DS_ASSIGN_OR_RETURN(source,
                          ParseJsonObject(StrCat(from, "/", label, "/", kSource), *text, kDeepest));
    }
    labels.push_back(
        {{"name", label}, {"trained", report.documents[static_cast<int>(Split::kTrain)] > 0}});
    card["labels"].push_back({{"label", label},
                              {"documents", by_split},
                              {"bytes", bytes_by_split},
                              {"left_out",
                               {{"duplicates", report.duplicates},
                                {"near_duplicates", report.near_duplicates},
                                {"with_byte_0", report.with_zero},
                                {"too_short", report.too_short}}},
                              {"source", source}});
    reports.push_back(report);
  }
  nlohmann::json splits;
  for (const Split split : {Split::kTrain, Split::kValid, Split::kTest}) {
    DS_ASSIGN_OR_RETURN(splits[std::string(SplitName(split))],
                        builder.WriteSplit(to, split, *tokenizer));
  }
  card["splits"] = splits;
  DS_RETURN_IF_ERROR(WriteFileAtomically(to + "/card.json", card.dump(1) + "\n"));
  DS_RETURN_IF_ERROR(WriteFileAtomically(to + "/CARD.md", Card(card)));
  // Last: without it the directory is no corpus.
  const nlohmann::json corpus = {
      {"schema", 1}, {"tokenizer", options.tokenizer}, {"labels", labels}, {"splits", splits}};
  DS_RETURN_IF_ERROR(WriteFileAtomically(to + "/corpus.json", corpus.dump(1) + "\n"));
  return reports;
}

}  // namespace dreamstate::training
