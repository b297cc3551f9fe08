// dreamstate states show
#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/generation_arguments.h"
#include "client/cli/heat_map.h"
#include "nlohmann/json.hpp"

namespace dreamstate::cli {
namespace {

struct Arguments {
  std::string name;
  std::string map;  // one of kMaps, "none", or empty: not given
  PngArguments png;
};

struct MapKind {
  const char* name;
  const char* title;
  float (v1::HeadGeometry::*value)() const;
};
constexpr MapKind kMaps[] = {
    {"rms", "RMS of every matrix", &v1::HeadGeometry::rms},
    {"norm", "Spectral norm of every matrix", &v1::HeadGeometry::spectral_norm},
    {"rank", "Stable rank of every matrix", &v1::HeadGeometry::stable_rank},
};

void PrintState(Output& output, const v1::State& state) {
  const v1::Lineage& lineage = state.lineage();
  const auto line = [&output](absl::string_view key, absl::string_view value) {
    output.Line(absl::StrFormat("  %-12s %s", key, value));
  };
  output.Heading(
      absl::StrCat(state.name(), state.deleted() ? "  (deleted; this description is left)" : ""));
  line("model", state.model());
  line("fingerprint", state.backbone_fingerprint());
  line("created", ShowTime(state.created()));
  line("expires", state.has_expires() ? ShowTime(state.expires()) : "never");
  line("labels", state.labels().empty() ? "-" : absl::StrJoin(state.labels(), ", "));
  line("tokens read", absl::StrCat(state.token_count()));
  line("size", absl::StrCat(ShowBytes(state.bytes()), ": ",
                            ShowShape(state.shape().layers(), state.shape().width(),
                                      state.shape().heads(), state.shape().head_size())));
  line("numerics", state.numerics().empty() ? "unknown" : state.numerics());
  line("next token", state.has_last_hidden() ? "known at once" : "known after the separator");
  line("made by", lineage.operation());
  line("from", !lineage.parents().empty()        ? absl::StrJoin(lineage.parents(), ", ")
               : lineage.operation() == "upload" ? "a file"
                                                 : "the empty state");
  if (lineage.arguments().fields_size() > 0) {
    const nlohmann::json arguments =
        nlohmann::json::parse(ToJson(lineage.arguments()), nullptr, /*allow_exceptions=*/false);
    line("arguments", arguments.dump());  // in order of their keys
  }
  if (lineage.tokens_read() > 0) {
    line("read",
         absl::StrFormat("%d tokens, sha-256 %s%s", lineage.tokens_read(), lineage.tokens_sha256(),
                         lineage.kept_tokens().empty() ? "" : ", kept"));
  }
  line("etag", state.etag());
}

std::string ShowRange(const google::protobuf::RepeatedField<float>& values) {
  if (values.empty()) return "-";
  const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
  return absl::StrFormat("%.3g to %.3g", *least, *greatest);
}

absl::Status DrawMap(Output& output, const v1::DescribeStateResponse& described,
                     const MapKind& kind, const PngArguments& png) {
  HeadMap map;
  map.title = kind.title;
  map.subtitle = described.state().name();
  map.layers = described.state().shape().layers();
  map.heads = described.state().shape().heads();
  if (absl::Status status = CheckSizes(map.layers, map.heads, described.heads_size());
      !status.ok()) {
    return status;
  }
  for (const v1::HeadGeometry& head : described.heads()) map.values.push_back((head.*kind.value)());
  if (!output.json()) {
    output.Line(absl::StrFormat("  %-12s time mix %s, channel mix %s", "shift rms",
                                ShowRange(described.time_mix_shift_rms()),
                                ShowRange(described.channel_mix_shift_rms())));
    if (described.has_energy()) {
      output.Line(absl::StrFormat("  %-12s %.4f", "energy", described.energy()));
    }
    if (described.has_safety()) {
      output.Line(absl::StrFormat("  %-12s %s", "safety gate", ShowSafety(described.safety())));
    }
    output.Line("");
    Print(map, output);
  }
  return png.Write(map, output);
}

absl::Status Show(Session& session, const Arguments& arguments) {
  if (absl::Status status = arguments.png.Check(); !status.ok()) return status;
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  Output& output = session.output();
  // As JSON the numbers are an answer of their own, for who asks for them.
  const bool describe = output.json() ? !arguments.map.empty() || !arguments.png.file.empty()
                                      : arguments.map != "none";
  if (!output.json() || !describe || arguments.map == "none") {
    const absl::StatusOr<v1::State> state = (*client)->GetState(arguments.name, session.Call());
    if (!state.ok()) return state.status();
    if (output.json()) {
      output.Json(*state);
    } else {
      PrintState(output, *state);
    }
    if (state->deleted()) return absl::OkStatus();
  }
  if (!describe || arguments.map == "none") return absl::OkStatus();
  const absl::StatusOr<v1::DescribeStateResponse> described =
      (*client)->DescribeState(arguments.name, session.Call());
  const bool asked_for = !arguments.map.empty() || !arguments.png.file.empty();
  if (absl::IsUnimplemented(described.status()) && !asked_for) {
    output.Note("this server knows no numbers of single matrices");
    return absl::OkStatus();
  }
  if (!described.ok()) return described.status();
  if (output.json()) output.Json(*described);
  const MapKind* const kind =
      std::find_if(std::begin(kMaps), std::end(kMaps), [&](const MapKind& candidate) {
        return arguments.map.empty() || arguments.map == candidate.name;
      });
  return DrawMap(output, *described, *kind, arguments.png);
}

}  // namespace

void AddStatesShow(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(parent, "show",
                                 "Show one state: sizes, labels, how it was made, and a map of its "
                                 "matrices",
                                 "  dreamstate states show STATE\n"
                                 "  dreamstate states show STATE --map rank --png rank.png\n"
                                 "  dreamstate states show STATE --json\n"
                                 "  dreamstate states show STATE --json --map rms");
  const auto a = std::make_shared<Arguments>();
  command->add_option("state", a->name, "The state's name or id")
      ->required()
      ->type_name("STATE")
      ->check(kUtf8);
  command
      ->add_option("--map", a->map,
                   "What is drawn for every layer and head: rms (the default), norm (largest "
                   "singular value), rank (how many directions carry it), or none; with --json: "
                   "print these numbers instead of the description")
      ->type_name("MAP")
      ->check(CLI::IsMember({"rms", "norm", "rank", "none"}));
  a->png.AddTo(*command);
  command->callback([&session, a] { session.Choose([a](Session& s) { return Show(s, *a); }); });
}

}  // namespace dreamstate::cli
