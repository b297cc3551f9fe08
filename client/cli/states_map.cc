// dreamstate states map
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/files.h"
#include "client/cli/flag_words.h"
#include "client/cli/state_plot.h"
#include "client/names.h"
#include "core/picture/png.h"
#include "core/picture/scatter.h"

namespace dreamstate::cli {
namespace {

struct Arguments {
  std::vector<std::string> names;
  std::string model, parent, fingerprint;
  std::vector<std::string> labels;
  uint32_t limit = 500;
  std::string method = "pca";
  std::optional<float> perplexity;
  std::optional<uint64_t> seed;
  std::vector<int> layers;
  std::string colour_by = "label";
  std::string png, html;
  bool replace = false;

  bool tsne() const { return method == "tsne"; }
};

absl::Status Check(const Arguments& arguments) {
  if (!arguments.tsne() && (arguments.perplexity.has_value() || arguments.seed.has_value())) {
    return UsageError("--perplexity and --seed are for --method tsne");
  }
  if (!arguments.png.empty() && arguments.png == arguments.html) {
    return UsageError("--png and --html name the same file");
  }
  for (const std::string& file : {arguments.png, arguments.html}) {
    if (file.empty()) continue;
    if (absl::Status status = CheckWritable(file, arguments.replace); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// The states that the filters let through, newest first.
absl::StatusOr<std::vector<std::string>> Listed(Session& session, client::Client& client,
                                                const Arguments& arguments) {
  v1::ListStatesRequest filter;
  filter.set_model(client::ModelName(arguments.model));
  filter.set_parent(client::StateName(arguments.parent));
  filter.set_backbone_fingerprint(arguments.fingerprint);
  for (const std::string& label : arguments.labels) filter.add_labels(label);
  filter.set_page_size(static_cast<int32_t>(std::min<uint32_t>(arguments.limit, 999) + 1));
  client::Pages<v1::State> states = client.States(std::move(filter), session.Call());
  // One more than drawn, to know whether there are more.
  absl::StatusOr<std::vector<v1::State>> found = states.Collect(arguments.limit + 1);
  if (!found.ok()) return found.status();
  if (found->size() > arguments.limit) {
    found->resize(arguments.limit);
    session.output().Note(
        absl::StrCat("the newest ", arguments.limit, " of more; raise --limit to see others"));
  }
  std::vector<std::string> names;
  for (const v1::State& state : *found) names.push_back(state.name());
  return names;
}

// What a state is coloured by.
std::string GroupOf(const v1::State& state, const Arguments& arguments) {
  if (arguments.colour_by == "model") return std::string(client::IdOf(state.model()));
  if (arguments.colour_by == "made-by") return state.lineage().operation();
  for (const std::string& label : state.labels()) {
    // Those that all states have tell none apart.
    const auto& asked = arguments.labels;
    if (std::find(asked.begin(), asked.end(), label) == asked.end()) return label;
  }
  return "no label";
}

std::string TextOf(const v1::State& state) {
  std::string text = absl::StrCat(state.name(), "\n");
  if (!state.labels().empty()) absl::StrAppend(&text, absl::StrJoin(state.labels(), ", "), "\n");
  absl::StrAppend(&text, state.lineage().operation(), ", ",
                  ShowNumber(state.token_count(), "token"), ", ", ShowTime(state.created()));
  const auto& facts = state.lineage().arguments().fields();
  const auto document = facts.find("document");
  if (document != facts.end()) absl::StrAppend(&text, "\n", document->second.string_value());
  return text;
}

picture::Scatter ToScatter(const v1::ProjectStatesResponse& map, const Arguments& arguments) {
  picture::Scatter scatter;
  scatter.title = absl::StrCat("Map of ", ShowNumber(map.points_size(), "state"));
  scatter.subtitle = arguments.tsne() ? "t-SNE: neighbours stay together" : "principal components";
  if (!arguments.layers.empty()) {
    absl::StrAppend(&scatter.subtitle, arguments.layers.size() == 1 ? ", layer " : ", layers ",
                    absl::StrJoin(arguments.layers, ", "));
  }
  const auto axis = [&map](int direction) {
    return map.explained_variance_size() <= direction
               ? std::string()
               : absl::StrFormat("direction %d: %.1f %% of the variance", direction + 1,
                                 100 * map.explained_variance(direction));
  };
  scatter.x_axis = axis(0);
  scatter.y_axis = axis(1);
  std::map<std::string, int> groups;
  for (const auto& point : map.points()) groups[GroupOf(point.state(), arguments)] = 0;
  for (auto& [name, index] : groups) {
    index = static_cast<int>(scatter.groups.size());
    scatter.groups.push_back(name);
  }
  for (const auto& point : map.points()) {
    scatter.points.push_back({.x = point.x(),
                              .y = point.y(),
                              .group = groups.at(GroupOf(point.state(), arguments)),
                              .text = TextOf(point.state())});
  }
  return scatter;
}

absl::Status WritePng(const picture::Scatter& scatter, const Arguments& arguments, Output& output) {
  const absl::StatusOr<picture::Image> image = picture::Draw(scatter);
  if (!image.ok()) return image.status();
  const absl::StatusOr<std::string> bytes = picture::EncodePng(*image);
  if (!bytes.ok()) return bytes.status();
  if (absl::Status status = WriteFile(arguments.png, arguments.replace, *bytes); !status.ok()) {
    return status;
  }
  output.Note(absl::StrCat("wrote ", arguments.png, ", ", image->width(), " x ", image->height(),
                           " pixels"));
  return absl::OkStatus();
}

absl::Status WriteHtml(const picture::Scatter& scatter, const Arguments& arguments,
                       Output& output) {
  const absl::StatusOr<std::string> page = picture::ToHtml(scatter);
  if (!page.ok()) return page.status();
  if (absl::Status status = WriteFile(arguments.html, arguments.replace, *page); !status.ok()) {
    return status;
  }
  output.Note(absl::StrCat("wrote ", arguments.html));
  return absl::OkStatus();
}

absl::Status Map(Session& session, const Arguments& arguments) {
  if (absl::Status status = Check(arguments); !status.ok()) return status;
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  v1::ProjectStatesRequest request;
  for (const std::string& name : arguments.names) request.add_names(client::StateName(name));
  if (arguments.names.empty()) {
    const absl::StatusOr<std::vector<std::string>> names = Listed(session, **client, arguments);
    if (!names.ok()) return names.status();
    for (const std::string& name : *names) request.add_names(name);
  }
  request.set_method(arguments.tsne() ? v1::ProjectStatesRequest::T_SNE
                                      : v1::ProjectStatesRequest::PCA);
  if (arguments.perplexity.has_value()) request.set_perplexity(*arguments.perplexity);
  request.set_seed(arguments.seed.value_or(0));
  for (const int layer : arguments.layers) request.add_layers(layer);
  const absl::StatusOr<v1::ProjectStatesResponse> map =
      (*client)->ProjectStates(request, session.Call());
  if (!map.ok()) {
    return InFlagWords(map.status(), {{"names", "a map"}, {"perplexity", "--perplexity"}});
  }

  Output& output = session.output();
  const picture::Scatter scatter = ToScatter(*map, arguments);
  if (output.json()) {
    output.Json(*map);
  } else if (!map->points().empty()) {
    output.Heading(absl::StrCat(scatter.title, ": ", scatter.subtitle));
    if (!scatter.x_axis.empty()) {
      output.Line(absl::StrCat("to the right ", scatter.x_axis));
      output.Line(absl::StrCat("upwards      ", scatter.y_axis));
    }
    Print(scatter, output);
  }
  if (!arguments.png.empty()) {
    if (absl::Status status = WritePng(scatter, arguments, output); !status.ok()) return status;
  }
  return arguments.html.empty() ? absl::OkStatus() : WriteHtml(scatter, arguments, output);
}

}  // namespace

void AddStatesMap(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(
      parent, "map", "Draw states as points: those that are alike lie together",
      "  dreamstate states map --label library\n"
      "  dreamstate states map --label library --method tsne --html map.html\n"
      "  dreamstate states map STATE STATE STATE --layers 3,4 --png map.png\n"
      "\n"
      "pca shows the two directions of largest variance, tsne keeps neighbours together; with it\n"
      "distances between groups mean little.");
  const auto a = std::make_shared<Arguments>();
  CLI::Option* const names =
      command->add_option("STATE", a->names, "Names or ids; none: all that the filters let through")
          ->type_name("")
          ->check(kUtf8);
  command->add_option("--model", a->model, "Only states of this model")
      ->check(kUtf8)
      ->excludes(names);
  command
      ->add_option("--label", a->labels, "Only states with this label; repeated: with all of them")
      ->allow_extra_args(false)
      ->check(kUtf8)
      ->excludes(names);
  command->add_option("--parent", a->parent, "Only states made directly from this one")
      ->type_name("STATE")
      ->check(kUtf8)
      ->excludes(names);
  command
      ->add_option("--fingerprint", a->fingerprint,
                   "Only states of the backbone with this fingerprint")
      ->check(kUtf8)
      ->excludes(names);
  command->add_option("--limit", a->limit, "At most this many, the newest")
      ->check(CLI::Range(3u, 2000u))
      ->capture_default_str();
  command->add_option("--method", a->method, "How places are found: pca or tsne")
      ->type_name("METHOD")
      ->check(CLI::IsMember({"pca", "tsne"}))
      ->capture_default_str();
  command->add_option("--perplexity", a->perplexity,
                      "Of tsne: neighbours that count, 2 to 100 (default: 30, or a third of the "
                      "states if they are fewer)");
  command->add_option("--seed", a->seed, "Of tsne: the same seed, the same map (default: 0)");
  command->add_option("--layers", a->layers, "Layers that count, as 0,1,2 (default: all)")
      ->type_name("LAYERS")
      ->delimiter(',')
      ->allow_extra_args(false);
  command
      ->add_option("--color-by", a->colour_by,
                   "What letters and colours stand for: label (the first that was not asked "
                   "for), model or made-by")
      ->type_name("WHAT")
      ->check(CLI::IsMember({"label", "model", "made-by"}))
      ->capture_default_str();
  command->add_option("--png", a->png, "Also draw the map into this file")->type_name("FILE");
  command
      ->add_option("--html", a->html,
                   "Also write a page that shows what each point is, for a browser")
      ->type_name("FILE");
  command->add_flag("--force", a->replace, "Replace the files when there are some");
  command->callback([&session, a] { session.Choose([a](Session& s) { return Map(s, *a); }); });
}

}  // namespace dreamstate::cli
